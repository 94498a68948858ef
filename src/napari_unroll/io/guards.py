"""What stands between a file and the memory: existence, size, kind of content, hash.

Every function here runs before anything large is allocated and says in one sentence what is wrong.
It knows containers (HDF5, TIFF, ...), not formats, and nothing of scans.
"""

from __future__ import annotations

import errno
import hashlib
import importlib
import logging
import os
import stat
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import ModuleType

import numpy as np
import psutil

from napari_unroll.errors import FileFormatError, LargeScan, ScanError, UnrollError, shortened
from napari_unroll.interrupt import check

MAGIC = {
    b"\x89HDF\r\n\x1a\n": "hdf5",
    b"\x93NUMPY": "npy",
    b"PK\x03\x04": "npz",
    b"\x89PNG\r\n\x1a\n": "png",
    b"II*\x00": "tiff",
    b"MM\x00*": "tiff",
    b"II+\x00": "tiff",
    b"MM\x00+": "tiff",
    b"MATLAB 5.0 MAT-file": "mat",
    b"MATLAB 7.3 MAT-file": "hdf5",
    b"SIMPLE  =": "fits",
    b"# Dimensions": "bart",
    b"rawarray": "rawarray",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "ole",
}
MRC_SUFFIXES = (".mrc", ".mrcs", ".st", ".ali", ".rec", ".map")
MEMORY_SHARE = 0.8
"""The part of the memory available now that a scan may take."""
LARGE_BYTES = 2**30
"""Of memory or of a file: a scan beyond is not read without being asked for, nor hashed from end to end."""
BLOCK_BYTES, MOST_BLOCKS = 2**20, 256
"""Of large files so many blocks are hashed, spread evenly from the first to the last."""
MOST_PACKED = 20_000
"""Compression beyond this is damage: deflate ends at about 1000, and detector noise never packs so well."""


_links_allowed: ContextVar[bool] = ContextVar("links_allowed", default=False)
_most_bytes: ContextVar[float] = ContextVar("most_bytes", default=float("inf"))


@contextmanager
def following_links(allowed: bool = True) -> Iterator[None]:
    """Within it, files may take values from other files by links, which are refused otherwise: who asks for it chose those too."""
    token = _links_allowed.set(allowed or _links_allowed.get())
    try:
        yield
    finally:
        _links_allowed.reset(token)


def are_links_allowed() -> bool:
    """Whether :func:`following_links` is around."""
    return _links_allowed.get()


@contextmanager
def loading_at_most(n_bytes: float) -> Iterator[None]:
    """Within it, what takes more memory is not loaded: :func:`check_memory` raises LargeScan, which says how much it takes."""
    token = _most_bytes.set(n_bytes)
    try:
        yield
    finally:
        _most_bytes.reset(token)


def container(path: Path) -> str:
    """What a path holds by its content, or "" when unknown.

    One of folder, hdf5, npy, npz, png, tiff, mat, ole, mrc, bart, rawarray, siemens, fits, text. Raises FileFormatError where
    there is nothing, or nothing in it.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        reason = f" ({error.strerror})" if isinstance(error, OSError) and error.errno != errno.ENOENT else ""
        raise FileFormatError(f"There is no file {path}{reason}; check the name and the folder.") from None
    if stat.S_ISDIR(mode):
        return "folder"
    if not stat.S_ISREG(mode):
        raise FileFormatError(f"{path} is neither a file nor a folder; give a file with measurements.")
    head = read_head(path, 1024)
    if not head:
        raise FileFormatError(f"{path.name} is empty (0 bytes); copy or export it again.")
    for magic, kind in MAGIC.items():
        if head.startswith(magic):
            return kind
    if head[208:212] == b"MAP " or path.suffix.lower() in MRC_SUFFIXES:
        return "mrc"
    if path.suffix.lower() == ".cfl":
        return "bart"
    if _is_siemens(head, path.stat().st_size):
        return "siemens"
    return "text" if is_text(head) else ""


def _is_siemens(head: bytes, size: int) -> bool:
    """Whether a file begins with Siemens' protocol (VB), or with its list of at most 64 measurements (VD and later)."""
    if head[8:15] == b"Config\x00":
        return True
    if len(head) < 24:
        return False
    (first, n), (start,) = struct.unpack_from("<II", head), struct.unpack_from("<Q", head, 16)
    return bool(first < 10_000 and 1 <= n <= 64 and 10_240 <= start < size and start % 512 == 0)


def is_text(head: bytes) -> bool:
    """Whether the first bytes of a file are text: no control characters but blanks, tabs and line ends."""
    return not any(byte < 32 and byte not in b"\t\n\r\f" for byte in head.removeprefix(b"\xef\xbb\xbf"))


def read_head(path: Path, n_bytes: int) -> bytes:
    """The first bytes of a file; a file that may not be opened gives a sentence."""
    try:
        with path.open("rb") as file:
            return file.read(n_bytes)
    except OSError as error:
        raise FileFormatError(f"{path} cannot be opened: {error.strerror or error}. Check its permissions.") from error


def check_declared(path: Path, needed_bytes: int, what: str) -> None:
    """Raise where a file declares more uncompressed data than it can hold."""
    size = path.stat().st_size
    if needed_bytes > size:
        raise FileFormatError(
            f"{path.name} declares {what}, {readable(needed_bytes)}, but the file has only {readable(size)}: "
            "it is truncated or damaged. Copy it again."
        )


def check_folder(folder: Path) -> None:
    """Raise where a folder that is one data set holds anything but folders and files of its own.

    Links lead to what the user did not choose; pipes and devices have no end.
    """
    waiting = [folder]
    while waiting:
        with os.scandir(waiting.pop()) as found:
            entries = list(found)
        for entry in entries:
            check()
            if entry.is_symlink() and are_links_allowed():
                continue
            if entry.is_symlink() or not (entry.is_file() or entry.is_dir()):
                what = "a link to another place" if entry.is_symlink() else "neither a file nor a folder"
                raise FileFormatError(
                    f"{folder.name} holds {shortened(entry.name, 40)}, {what}; copy its files into it."
                )
            if entry.is_dir():
                waiting.append(Path(entry.path))


def check_packed(name: str, needed_bytes: int, stored_bytes: int) -> None:
    """Raise where compressed data declares more than any measurement could have been packed from."""
    if needed_bytes > MOST_PACKED * max(stored_bytes, 1):
        raise FileFormatError(
            f"{name} declares {readable(needed_bytes)}, packed into {readable(stored_bytes)}: no measurement compresses "
            "so well, so the file is damaged or incomplete. Copy it again."
        )


def check_memory(needed_bytes: int, what: str) -> None:
    """Raise where an array would not fit the memory available now, or takes more than was allowed (LargeScan)."""
    available = int(psutil.virtual_memory().available)
    if needed_bytes > _most_bytes.get():
        raise LargeScan(
            f"Loading {what} takes {readable(needed_bytes)} of memory; {readable(available)} are available."
        )
    if needed_bytes > MEMORY_SHARE * available:
        raise FileFormatError(
            f"Loading {what} needs {readable(needed_bytes)} of memory, but {readable(available)} are available. "
            "If the numbers are right, load less (options bin, view_step, views, rows); if not, the file is damaged."
        )


def readable(n_bytes: int) -> str:
    """A size in words: 12 bytes, 3.4 MB."""
    if n_bytes < 1000:
        return f"{n_bytes} bytes"
    value, units = float(n_bytes), ("kB", "MB", "GB", "TB", "PB", "EB")
    for unit in units:
        value /= 1000
        if value < 1000 or unit == units[-1]:
            break
    return f"{value:.3g} {unit}"


def files_of(path: Path) -> list[Path]:
    """A file, with the samples beside it where it is their header (BART); those in a folder, or beneath one of folders only."""
    if not path.is_dir():
        samples = path.with_suffix(".cfl")
        return [path, samples] if path.suffix == ".hdr" and samples.is_file() else [path]
    return sorted(p for p in path.iterdir() if p.is_file()) or sorted(p for p in path.rglob("*") if p.is_file())


def file_hash(path: Path, *beside: Path) -> str:
    """SHA-256 of a file, or of the names and contents of the files of a folder, and of the files ``beside`` it.

    Of more than LARGE_BYTES only the sizes and some blocks of each file are hashed, and the text begins with "sampled-".
    """
    digest = hashlib.sha256()
    own = files_of(path)
    files = [*own, *sorted({*beside}.difference(own))]
    sizes = [file.stat().st_size for file in files]
    is_large = sum(sizes) > LARGE_BYTES
    for file, size in zip(files, sizes, strict=True):
        if file != path:
            digest.update(file.name.encode())
        if is_large:
            digest.update(str(size).encode())
        with file.open("rb") as stream:
            for at in _blocks(size, max(2, MOST_BLOCKS // len(files)) if is_large else size):
                check()
                stream.seek(at)
                digest.update(stream.read(BLOCK_BYTES))
    return ("sampled-" if is_large else "") + digest.hexdigest()


def _blocks(size: int, most: int) -> Iterable[int]:
    """Where blocks of a file begin: all, one after the other, or ``most`` of them with the first and the last."""
    n = -(-size // BLOCK_BYTES)
    if n <= most:
        return range(0, size, BLOCK_BYTES)
    return ((size - BLOCK_BYTES) * k // (most - 1) for k in range(most))


@contextmanager
def translated(path: Path, title: str) -> Iterator[None]:
    """The border of the room: whatever a parser raises on a bad file leaves as one FileFormatError.

    Parsers of foreign formats raise nearly anything on damaged input, so everything that is not already
    one of our sentences is caught here, and nowhere else. Numbers that float32 cannot hold become infinite without a
    warning: a Scan refuses them in words.
    """
    try:
        with np.errstate(all="ignore"):
            yield
    except ScanError as error:
        raise FileFormatError(f"{path.name} ({title}): {error}") from error
    except UnrollError:
        raise
    except Exception as error:
        reason = shortened(str(error).strip().split("\n")[0] or type(error).__name__, 100)
        raise FileFormatError(
            f"{path.name} was expected to be {title}, but reading it failed ({reason}). It is damaged, truncated or "
            "of another kind; open it in the program that wrote it, or copy it again."
        ) from error


def rare(package: str, title: str, extra: str = "formats") -> ModuleType:
    """A library of the ``extra``. Raises FileFormatError with the command that installs it where it is missing."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise FileFormatError(
            f"{title} needs the package {package.partition('.')[0]}, which is not installed: pip install 'napari-unroll[{extra}]'."
        ) from error


@contextmanager
def quiet(logger: str) -> Iterator[None]:
    """Keep a library's log off the terminal while its complaints become our sentences."""
    log = logging.getLogger(logger)
    before = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        log.setLevel(before)
