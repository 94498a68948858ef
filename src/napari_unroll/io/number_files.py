"""Angles and projection vectors from small files or from a range typed by the user.

Degrees, radians and text end here. It knows nothing of measurements.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from napari_unroll.errors import FileFormatError, ParameterError
from napari_unroll.io.guards import check_memory, container, read_head
from napari_unroll.io.npy_header import load_npy
from napari_unroll.record import shown
from napari_unroll.scan.limits import LARGEST_ANGLE_RAD
from napari_unroll.scan.limits import angles as checked_angles

RANGE = re.compile(r"^\s*([-+.\deE]+)\s*:\s*([-+.\deE]+)\s*$")
MOST_BYTES = 200_000_000
"""A text file of numbers larger than this is something else."""
SIDE_SUFFIXES = (".rawtlt", ".tlt", ".txt", ".csv")
SIDE_NAMES = tuple(f"{stem}{suffix}" for stem in ("angles", "theta") for suffix in (".txt", ".csv", ".npy"))


def locate(text: str, beside: Path) -> Path:
    """A path as typed, or else taken relative to the folder of the file ``beside``."""
    given = Path(text).expanduser()
    folder = beside if beside.is_dir() else beside.parent
    return given if given.exists() or not (folder / given).exists() else folder / given


def angles_file(path: Path) -> Path | None:
    """The angle file that lies beside a stack under its own name, or under a usual name in a folder of views."""
    if not path.is_dir():
        return next((f for s in SIDE_SUFFIXES if (f := path.with_suffix(s)).is_file() and f != path), None)
    named = next((path / name for name in SIDE_NAMES if (path / name).is_file()), None)
    tilts = [p for p in path.iterdir() if p.suffix.lower() in (".tlt", ".rawtlt")]
    return named or (tilts[0] if len(tilts) == 1 else None)


def angles_from(text: str, n_views: int, beside: Path, unit: str) -> np.ndarray:
    """Angles in radians from a range ``first:last`` (both are views) or from a file with one number per view."""
    if found := RANGE.match(text):
        first, last = _ends(text, *found.groups())
        return to_radians(np.linspace(first, last, n_views), unit)
    path = locate(text, beside)
    angles = numbers_from(path).ravel()
    if len(angles) != n_views:
        raise FileFormatError(
            f"{path.name} has {len(angles)} angles, but there are {n_views} views; "
            "the angle file must have one number per view."
        )
    return to_radians(angles, unit)


def _ends(text: str, *ends: str) -> list[float]:
    try:
        found = [float(end) for end in ends]
    except ValueError:
        found = [np.nan]
    if not all(abs(end) <= LARGEST_ANGLE_RAD for end in found):
        raise ParameterError(
            f"A range of angles is written first:last, such as 0:180, up to {LARGEST_ANGLE_RAD:g}; got {shown(text)}."
        )
    return found


def to_radians(angles: np.ndarray, unit: str) -> np.ndarray:
    """Angles in radians; a unit that begins with "rad" is radians, everything else degrees. ScanError unless finite."""
    angles = np.asarray(angles, np.float64)
    return checked_angles(angles if unit.lower().startswith("rad") else np.deg2rad(angles))


def guess_unit(angles: np.ndarray) -> str:
    """Degrees, unless more than ten views all lie within one turn's worth of radians."""
    return "radians" if len(angles) > 10 and np.abs(angles).max() <= 2 * np.pi * 1.001 else "degrees"


def vectors_from(text: str, n_views: int, beside: Path) -> np.ndarray:
    """ASTRA vectors (view, 12) from a text or .npy file."""
    path = locate(text, beside)
    vectors = numbers_from(path)
    if vectors.shape != (n_views, 12):
        raise FileFormatError(
            f"{path.name} holds numbers of shape {vectors.shape}; expected one row of 12 for each of {n_views} views."
        )
    return vectors


def numbers_from(path: Path) -> np.ndarray:
    """The numbers of a .npy file or of a text file (blanks, commas or semicolons between them), float64.

    Rows of equal length give a table, anything else a list. Raises FileFormatError also where one is NaN or infinite.
    """
    kind = container(path)
    if kind not in ("npy", "text", ""):
        raise FileFormatError(f"{path.name} should be a text or .npy file of numbers; it is of kind {kind}.")
    numbers = np.asarray(load_npy(path), np.float64) if kind == "npy" else _parse(path)
    if not np.isfinite(numbers).all():
        raise FileFormatError(
            f"{path.name} holds NaN or infinity; expected finite angles or vectors. Correct the file."
        )
    return numbers


def _parse(path: Path) -> np.ndarray:
    size = path.stat().st_size
    check_memory(10 * size, path.name)
    if size > MOST_BYTES:
        raise FileFormatError(f"{path.name} is too large for a text file of angles or vectors; give the right file.")
    rows = [_row(path, k, line) for k, line in enumerate(read_head(path, size).splitlines(), start=1)]
    rows = [row for row in rows if row]
    if not rows:
        raise FileFormatError(f"{path.name} holds no numbers; expected one angle per view, or rows of 12 numbers.")
    if len({len(row) for row in rows}) == 1:
        return np.array(rows, np.float64)
    return np.array([number for row in rows for number in row], np.float64)


def _row(path: Path, k: int, line: bytes) -> list[float]:
    text = line.split(b"#")[0]
    try:
        return [float(word) for word in re.split(rb"[\s,;]+", text.strip()) if word]
    except ValueError as error:
        if k == 1 and re.search(rb"[a-df-z]{3}", text.lower()) and text.isascii():
            return []
        shown = line[:40].decode("ascii", "replace")
        raise FileFormatError(
            f"{path.name}, line {k}: expected numbers; got {shown!r}. Is it the right file?"
        ) from error
