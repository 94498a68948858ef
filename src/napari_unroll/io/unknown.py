"""A file that no format fits: what it is by its first bytes, and which formats come nearest.

It knows signatures of foreign files, and of the readers only their records.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from napari_unroll.io.guards import read_head
from napari_unroll.io.hdf5 import open_hdf5
from napari_unroll.io.npy_header import Archive
from napari_unroll.io.reader import Reader

PICTURES, TOMOGRAPHY, TILTS, VOLUMES = ("tiff", "tiff-folder", "picture"), ("tiff-folder", "npy"), ("mrc", "hspy"), ()
GZIP = b"\x1f\x8b"
FOREIGN: tuple[tuple[int, bytes, str, tuple[str, ...]], ...] = (
    (0, b"\xff\xd8\xff", "a JPEG picture", PICTURES),
    (0, b"GIF8", "a GIF picture", PICTURES),
    (0, b"BM", "a BMP picture", PICTURES),
    (8, b"WEBP", "a WebP picture", PICTURES),
    (0, b"8BPS", "a Photoshop picture", PICTURES),
    (0, b"\x00\x00\x00\x03\x00\x00", "a Gatan DM3 file", TILTS),
    (0, b"\x00\x00\x00\x04\x00\x00", "a Gatan DM4 file", TILTS),
    (0, b"II\x97\x01", "a TIA series (.ser)", TILTS),
    (128, b"DICM", "a DICOM file", VOLUMES),
    (344, b"n+1\x00", "a NIfTI volume", VOLUMES),
    (344, b"ni1\x00", "a NIfTI header", VOLUMES),
    (0, b"NRRD", "an NRRD volume", VOLUMES),
    (0, b"# vtk", "a VTK file", VOLUMES),
    (0, b"\x0e\x03\x13\x01", "an HDF4 file", TOMOGRAPHY),
    (0, GZIP, "a gzip archive", VOLUMES),
    (0, b"7z\xbc\xaf", "a 7z archive", VOLUMES),
    (0, b"Rar!", "a RAR archive", VOLUMES),
    (0, b"%PDF", "a PDF document", VOLUMES),
    (0, b"<?xml", "an XML file", VOLUMES),
    (0, b"\x80\x04\x95", "a pickle of Python objects, which is never loaded", ("npy", "npz")),
)
"""Where, which bytes, what it is, and the names of the readers that come nearest."""
MOST_NAMED, MOST_CHARACTERS = 3, 260
MOST_HELD = 60
"""Characters of what a container holds."""


def unsupported(path: Path, kind: str, kind_name: str, readers: Iterable[Reader]) -> str:
    """One sentence: what the file is, what it holds, and the formats nearest to it."""
    readers = tuple(readers)
    foreign = _foreign(path) if kind in ("", "text") else None
    own = [reader for reader in readers if reader.container == kind]
    if foreign is not None:
        what, near = foreign
        nearest = [reader for reader in readers if reader.name in near]
        return f"{path.name} is {what}, which is not read here{_named(nearest)}."
    if kind:
        same = [r for r in own if path.suffix.lower() in r.extensions]
        start = f"{path.name} is {kind_name}, but not one that is read here{_held(path, kind)}"
        return start + _expected([*same, *(r for r in own if r not in same)], MOST_CHARACTERS - len(start))
    return (
        f"{path.name} begins with bytes of no known kind; if these are raw numbers, describe them: see docs/formats.md."
    )


def _foreign(path: Path) -> tuple[str, tuple[str, ...]] | None:
    head = read_head(path, 512)
    if head.startswith(GZIP) and path.name.lower().endswith(".nii.gz"):
        return "a NIfTI volume", VOLUMES
    for start, magic, what, near in FOREIGN:
        if head[start : start + len(magic)] == magic and (len(magic) > 2 or b"\x00" in head):
            return what, near
    return None


def _named(readers: list[Reader]) -> str:
    if not readers:
        return "; see docs/formats.md for what is"
    return f"; the nearest that are: {', '.join(r.title for r in readers[:MOST_NAMED])}"


def _expected(readers: list[Reader], room: int) -> str:
    """As many of the readers, and what each looks for, as fit in ``room`` characters, but one at least."""
    for n in range(min(MOST_NAMED, len(readers)), 0, -1):
        known = "; or ".join(f"{reader.title} ({reader.expects})" for reader in readers[:n])
        more = f"; or {len(readers) - n} more, see docs/formats.md" if len(readers) > n else ""
        if n == 1 or len(known) + len(more) < room:
            return f"; expected {known}{more}."
    return "; see docs/formats.md for what is."


def _held(path: Path, kind: str) -> str:
    """What an archive or HDF5 file holds, in a few names."""
    if kind == "npz":
        held = str(Archive(path))
    elif kind == "hdf5":
        with open_hdf5(path) as file:
            held = ", ".join(file)
    else:
        held = ""
    return f"; it holds {held[:MOST_HELD]}{'…' if len(held) > MOST_HELD else ''}" if held else ""
