"""TIFF projections: a multi-page file or a folder with one file per view, with flats, darks and angles beside them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_unroll.errors import FileFormatError, ParameterError
from napari_unroll.io.ct_options import FieldOptions
from napari_unroll.io.ct_scan import Facts, circular_scan
from napari_unroll.io.guards import container
from napari_unroll.io.npy_header import load_npy
from napari_unroll.io.number_files import angles_file, locate
from napari_unroll.io.pictures import TIFF_SUFFIXES, load_tiff, mean_picture, open_tiff, tiff_files
from napari_unroll.io.reader import Reader
from napari_unroll.io.views import Views
from napari_unroll.scan.scan import Scan

Load = Callable[[Path], np.ndarray]
"""Opens a picture (row, column) or a stack of them."""
WHERE = r"([-_ ]?(field|image|current|before|after|pre|post))?s?([-_ ]?\d+m?s?)*$"
FLAT_NAME = re.compile(rf"^(.*[-_ ])?(flat|white|open_?beam|ob|ff|io){WHERE}", re.IGNORECASE)
DARK_NAME = re.compile(rf"^(.*[-_ ])?(dark|offset|dc|df|di){WHERE}", re.IGNORECASE)
"""Of a picture that is no view, with the name of the scan before it or not; *io* and *di* are of the walnuts."""


def sniff_file(path: Path) -> bool:
    """Every TIFF file may be a stack."""
    return True


def sniff_folder(path: Path) -> bool:
    """A folder with at least two TIFF files."""
    return len(tiff_files(path)) > 1


def read_file(path: Path, options: FieldOptions) -> Scan:
    """A multi-page TIFF as (view, row, column)."""
    with open_tiff(path) as stack:
        return stack_scan(path, stack, options, " Or the option format=picture-tiff for a blurred picture.")


def read_folder(path: Path, options: FieldOptions) -> Scan:
    """A folder with one TIFF per view; files named flat…, dark… are the fields, all others views."""
    return folder_scan(path, tiff_files(path), load_tiff, options)


def stack_scan(path: Path, stack: Any, options: FieldOptions, else_: str = "") -> Scan:
    """The scan of a stack (view, row, column) in one file, whose fields and angles may lie beside it.

    Of ``stack`` only the shape, the type and one picture after the other are asked for.
    """
    if len(stack.shape) != 3:
        raise FileFormatError(
            f"{path.name} holds one picture of {stack.shape[0]} × {stack.shape[1]} pixels; expected a stack of "
            f"projections. Give the folder that holds one file per view.{else_}"
        )
    views = Views(shape=stack.shape, load=lambda i: stack[i], integer=stack.dtype.kind in "iu")
    return _scan(path, views, {}, options)


def folder_scan(path: Path, files: list[Path], load: Load, options: FieldOptions) -> Scan:
    """The scan of a folder with a picture per view; ``load`` opens one."""
    names = {"flats": FLAT_NAME, "darks": DARK_NAME}
    fields = {kind: [f for f in files if name.match(f.stem)] for kind, name in names.items()}
    pictures = [f for f in files if f not in fields["flats"] and f not in fields["darks"]]
    if not pictures:
        raise FileFormatError(f"The folder {path.name} holds flats and darks but no views.")
    first = load(pictures[0])
    if first.ndim != 2:
        raise FileFormatError(f"{pictures[0].name} is a stack; give it alone, or a folder with one picture per file.")
    shape = (len(pictures), first.shape[0], first.shape[1])
    views = Views(shape=shape, load=lambda i: load(pictures[i]), integer=first.dtype.kind in "iu")
    return _scan(path, views, fields, options, load)


def _scan(
    path: Path, views: Views, beside: dict[str, list[Path]], options: FieldOptions, load: Load = load_tiff
) -> Scan:
    notes: list[str] = []
    flat = _field("flats", options.flats, beside.get("flats"), load, path, views.shape, notes)
    dark = _field("darks", options.darks, beside.get("darks"), load, path, views.shape, notes)
    views = replace(views, flat=flat, dark=0.0 if dark is None else dark)
    return circular_scan(path, views, Facts(angles_file=angles_file(path)), options, notes)


def _field(
    kind: str,
    given: str | None,
    beside: list[Path] | None,
    load: Load,
    path: Path,
    shape: tuple[int, ...],
    notes: list[str],
) -> np.ndarray | float | None:
    if given is None:
        if not beside:
            return None
        field: np.ndarray | float = mean_picture(beside, load)
        notes.append(f"{kind.capitalize()}: mean of {len(beside)} files found by their names.")
    else:
        field = load_field(given, path)
        notes.append(f"{kind.capitalize()} from {given}.")
    if isinstance(field, np.ndarray) and field.shape != tuple(shape[1:]):
        raise FileFormatError(
            f"The {kind} have {field.shape} pixels but the views {tuple(shape[1:])}; give those of this scan."
        )
    return field


def load_field(text: str, beside: Path) -> np.ndarray | float:
    """The mean field named by an option: a number, a TIFF or .npy file, or a folder of TIFFs."""
    try:
        level = float(text)
    except ValueError:
        path = locate(text, beside)
    else:
        if not np.isfinite(level):
            raise ParameterError(f"A flat or dark field is a finite number, a file or a folder; got {text!r}.")
        return level
    kind = container(path)
    if kind == "folder":
        return mean_picture(tiff_files(path))
    if kind == "tiff":
        return mean_picture([path])
    if kind == "npy":
        values = load_npy(path)
        return np.asarray(values.mean(axis=0) if values.ndim == 3 else values, np.float32)
    raise FileFormatError(f"{path.name} should be flat or dark fields: a TIFF or .npy file, or a folder of TIFFs.")


FILE_READER = Reader(
    name="tiff",
    title="TIFF stack",
    expects="any TIFF file",
    container="tiff",
    extensions=TIFF_SUFFIXES,
    sniff=sniff_file,
    read=read_file,
    options=FieldOptions,
    holds="angles beside it in a file of its name, or option `angles`",
)
FOLDER_READER = Reader(
    name="tiff-folder",
    title="folder of TIFF views",
    expects="at least two TIFF files",
    container="folder",
    extensions=(),
    sniff=sniff_folder,
    read=read_folder,
    options=FieldOptions,
    holds="angles in `angles.txt`, `theta.csv`, …, or option `angles`; `flat…`, `ob…`, `dark…`, `dc…` are fields",
)
