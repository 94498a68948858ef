"""Views in numbered TIFF files beside a file of settings: which of a folder they are, checked against what is declared."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_unroll.errors import FileFormatError
from napari_unroll.io.ct_options import FieldOptions
from napari_unroll.io.pictures import load_tiff, natural, tiff_files
from napari_unroll.io.tiff_stack import load_field
from napari_unroll.io.views import Views


@dataclass(frozen=True)
class Numbered:
    """Files of views in the order of their numbers; ``numbers`` (view,) count from 0."""

    files: list[Path]
    numbers: np.ndarray

    @classmethod
    def find(cls, folder: Path, prefix: str, first: int, n_declared: int, settings: str) -> Numbered:
        """The files ``prefix`` and a number, which is ``first`` for the first view; without any, all TIFF files.

        More than are declared are left out. Raises FileFormatError where there are none.
        """
        named = re.compile(re.escape(prefix) + r"[-_ ]?(\d+)", re.IGNORECASE)
        found = {int(m[1]): p for p in tiff_files(folder) if (m := named.fullmatch(p.stem))}
        if not found:
            files = sorted(tiff_files(folder), key=natural)
            found = dict(enumerate(files, start=first)) if len(files) == n_declared else {}
        if not found:
            raise FileFormatError(
                f"{settings} declares {n_declared} views, but {folder.name} has no TIFF files named {prefix}0001 and so on; "
                "put the settings and the views into one folder."
            )
        first = min(first, *found)
        numbers = [n for n in sorted(found) if n - first < n_declared]
        return cls([found[n] for n in numbers], np.array(numbers) - first)

    def views(self, shape: tuple[int, int] | None, flat: np.ndarray | float | None, dark: np.ndarray | float) -> Views:
        """The views, loaded one at a time. Raises FileFormatError unless they have the declared ``shape``."""
        first = load_tiff(self.files[0])
        if first.ndim != 2 or (shape is not None and first.shape != shape):
            raise FileFormatError(
                f"{self.files[0].name} holds a picture of shape {first.shape}; the settings say {shape}. Is it of this scan?"
            )
        for field in (flat, dark):
            if isinstance(field, np.ndarray) and field.shape != first.shape:
                raise FileFormatError(
                    f"Flats and darks must have {first.shape} pixels like the views; got {field.shape}."
                )
        full = (len(self.files), first.shape[0], first.shape[1])
        return Views(
            shape=full, load=lambda i: load_tiff(self.files[i]), flat=flat, dark=dark, integer=first.dtype.kind in "iu"
        )

    def note(self, n_declared: int) -> str:
        """How many of the declared views are there."""
        part = "" if len(self.files) == n_declared else f" of {n_declared} declared; the angles follow their numbers"
        return f"{len(self.files)} views, {self.files[0].name} … {self.files[-1].name}{part}."


def only_one(folder: Path, found: list[Path]) -> Path:
    """The settings of the only scan in a folder. Raises FileFormatError where there are more."""
    if len(found) > 1:
        raise FileFormatError(
            f"{folder.name} has several scans ({', '.join(p.name for p in found[:4])}); give one of them."
        )
    return found[0]


def fields(path: Path, options: FieldOptions) -> tuple[np.ndarray | float | None, np.ndarray | float]:
    """Flat and dark field that the options name."""
    flat = None if options.flats is None else load_field(options.flats, path)
    return flat, 0.0 if options.darks is None else load_field(options.darks, path)
