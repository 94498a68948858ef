"""Raw binary projections, described by a small YAML or JSON file beside them; see docs/formats.md for its keys.

The description says how the numbers lie; every other key is an option of the reader. Only plain values are read from it:
no tags, no anchors, no files outside its folder.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

import numpy as np
import yaml
from pydantic import Field, ValidationError

from napari_unroll.errors import FileFormatError, ParameterError
from napari_unroll.io.ct_options import FieldOptions
from napari_unroll.io.ct_scan import Facts, circular_scan
from napari_unroll.io.guards import check_declared, read_head
from napari_unroll.io.number_files import angles_file
from napari_unroll.io.numbered import fields
from napari_unroll.io.reader import Reader, parse_options
from napari_unroll.io.views import Views
from napari_unroll.record import Record, shown
from napari_unroll.scan.limits import MOST
from napari_unroll.scan.scan import Scan

SUFFIXES = (".yaml", ".yml", ".json")
MOST_BYTES, DEEPEST = 100_000, 3
Count = Annotated[int, Field(ge=1, le=MOST)]


class Layout(Record):
    """How the numbers lie in their file."""

    file: str = Field(description="The raw file, in the folder of the description or beneath it.")
    shape: tuple[Count, Count, Count] = Field(description="Lengths of the axes, the last one counting fastest.")
    dtype: Literal["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"] = Field(
        description="Type of the numbers."
    )
    byte_order: Literal["little", "big"] = Field(default="little", description="Which byte of a number comes first.")
    offset_bytes: int = Field(default=0, ge=0, le=10**12, description="Bytes before the first number.")
    order: Literal["view,row,column", "row,view,column"] = Field(
        default="view,row,column", description="What the axes are."
    )

    def stack(self, path: Path) -> np.ndarray:
        """The numbers (view, row, column), mapped, so that only what is touched is read."""
        dtype = np.dtype(self.dtype).newbyteorder("<" if self.byte_order == "little" else ">")
        n_bytes = self.offset_bytes + dtype.itemsize * int(np.prod(self.shape, dtype=object))
        check_declared(path, n_bytes, f"{self.shape} numbers of type {self.dtype}")
        stack = np.memmap(path, dtype, "r", self.offset_bytes, self.shape)
        return stack if self.order == "view,row,column" else stack.swapaxes(0, 1)


def sniff(path: Path) -> bool:
    """Whether it names a file, a shape and a type."""
    head = read_head(path, MOST_BYTES)
    return all(key in head for key in (b"file", b"shape", b"dtype"))


def _beside(path: Path) -> Path | None:
    """The description beside a raw file of the same name."""
    found = (path.with_suffix(suffix) for suffix in SUFFIXES)
    return next((p for p in found if p.is_file() and sniff(p)), None)


def sniff_raw(path: Path) -> bool:
    """Whether a description of the same name lies beside it."""
    return _beside(path) is not None


def read_raw(path: Path, options: FieldOptions) -> Scan:
    """The projections of the description beside a raw file."""
    beside = _beside(path)
    if beside is None:
        raise FileFormatError(
            f"{path.name} has no description beside it, such as {path.stem}.yaml; see docs/formats.md."
        )
    return read(beside, options)


def read(path: Path, options: FieldOptions) -> Scan:
    """The projections that a description names, with its options where none are given."""
    described = _description(path)
    layout, angles, told = _parts(path, described)
    options = told.model_copy(update=dict(options.changed()))
    raw = path.parent / layout.file
    if not raw.is_file():
        raise FileFormatError(
            f"{path.name} describes {layout.file[:60]}, which is not beside it; put both into one folder."
        )
    stack = layout.stack(raw)
    flat, dark = fields(path, options)
    for field in (flat, dark):
        if isinstance(field, np.ndarray) and field.shape != stack.shape[1:]:
            raise FileFormatError(
                f"Flats and darks must have {stack.shape[1:]} pixels like the views; got {field.shape}."
            )
    views = Views(
        shape=(stack.shape[0], stack.shape[1], stack.shape[2]),
        load=lambda i: stack[i],
        flat=flat,
        dark=dark,
        integer=stack.dtype.kind in "iu",
    )
    unit = "" if options.angle_unit == "auto" else options.angle_unit
    facts = Facts(angles=angles, angle_unit=unit, angles_source=path.name, angles_file=angles_file(raw))
    return circular_scan(path, views, facts, options, [f"Raw {layout.dtype} of {raw.name}, described by {path.name}."])


def beside(path: Path) -> list[Path]:
    """The raw file of a description."""
    return [path.parent / _parts(path, _description(path))[0].file]


def _description(path: Path) -> dict[str, Any]:
    """The keys of a YAML or JSON file; every value is text, or a list of text."""
    if path.stat().st_size > MOST_BYTES:
        raise FileFormatError(
            f"{path.name} is too large for a description of raw numbers; give long angles in another file."
        )
    text = read_head(path, MOST_BYTES).decode("utf-8-sig", "replace")
    try:
        _refuse_structure(path, text)
        found = yaml.load(text, Loader=yaml.BaseLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise FileFormatError(
            f"{path.name} is neither YAML nor JSON ({' '.join(str(error).split())[:100]})."
        ) from error
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise FileFormatError(f"{path.name} should have one 'name: value' per line; see docs/formats.md.")
    return found


def _refuse_structure(path: Path, text: str) -> None:
    """Refuse aliases, which can multiply, and deep nesting, which takes long, at the first one."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.BaseLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent) or depth > DEEPEST:
            raise FileFormatError(
                f"{path.name} has aliases or lists within lists within lists; expected 'name: value' with plain values."
            )


def _parts(path: Path, described: dict[str, Any]) -> tuple[Layout, np.ndarray | None, FieldOptions]:
    """The layout, the angles where they are listed, and the options."""
    rest = {name: value for name, value in described.items() if name not in Layout.model_fields}
    try:
        layout = Layout(**{name: value for name, value in described.items() if name in Layout.model_fields})
        listed = rest.pop("angles") if isinstance(rest.get("angles"), list) else None
        angles = None if listed is None else np.array([float(str(a)) for a in listed])
        options = parse_options(READER, rest)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise FileFormatError(f"{path.name}, {name}: {first['msg']}; got {shown(first['input'])}.") from error
    except (ParameterError, ValueError) as error:
        raise FileFormatError(f"{path.name}: {error}") from error
    named = {"file": layout.file} | {name: rest.get(name) for name in ("angles", "flats", "darks", "vectors")}
    for name, value in named.items():
        if isinstance(value, str) and _leads_away(value):
            raise FileFormatError(
                f"{path.name}, {name}: {shown(value)} lies outside its folder; put all files into one."
            )
    return layout, angles, options  # type: ignore[return-value]


def _leads_away(name: str) -> bool:
    path = PurePosixPath(name.replace("\\", "/"))
    on_a_drive = name[:1].isalpha() and name[1:2] == ":"
    return path.is_absolute() or ".." in path.parts or on_a_drive or name.startswith("~")


READER = Reader(
    name="described-raw",
    title="raw numbers described by YAML or JSON",
    expects="text with file, shape and dtype",
    container="text",
    extensions=SUFFIXES,
    sniff=sniff,
    read=read,
    options=FieldOptions,
    beside=beside,
    holds="`byte_order`, `offset_bytes`, `order`, `angles`, and every option of projections; see below",
)
RAW_READER = Reader(
    name="raw",
    title="raw numbers beside their description",
    expects="a .yaml or .json of the same name",
    container="",
    extensions=(".raw", ".bin", ".vol", ".dat"),
    sniff=sniff_raw,
    read=read_raw,
    options=FieldOptions,
    beside=lambda path: [p for p in [_beside(path)] if p],
    holds="what the description holds",
)
