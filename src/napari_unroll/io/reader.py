"""What a reader is: a record of how one format is recognised and read, and with which options.

It knows nothing of any particular format.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from napari_unroll.errors import ParameterError
from napari_unroll.record import Record, shown
from napari_unroll.scan.scan import Scan

FEW_OPTIONS = 8
"""As many are named in a sentence."""


class ReaderOptions(Record):
    """Base of the option records."""

    model_config = ConfigDict(coerce_numbers_to_str=True)

    allow_links: bool = Field(
        default=False, description="Take values from other files too, where links in the file lead to them."
    )

    def changed(self) -> tuple[tuple[str, Any], ...]:
        """The options that differ from their defaults: what must be repeated to read the file the same way."""
        defaults = type(self)()
        return tuple((k, getattr(self, k)) for k in type(self).model_fields if getattr(self, k) != getattr(defaults, k))


@dataclass(frozen=True, kw_only=True)
class Reader:
    """One format: ``sniff`` looks at the content of a path of kind ``container``; ``read`` makes a Scan of it.

    ``expects`` says in a few words what ``sniff`` looks for; ``holds`` what else the format must or may hold, for the
    table of the documentation. ``beside`` names the files of the measurements where they are not the path itself, so
    that the scan's hash counts them.
    """

    name: str
    title: str
    expects: str
    container: str
    extensions: tuple[str, ...]
    sniff: Callable[[Path], bool]
    read: Callable[[Path, Any], Scan]
    options: type[ReaderOptions]
    holds: str = ""
    beside: Callable[[Path], list[Path]] = lambda path: []


def parse_options(reader: Reader, values: Mapping[str, Any]) -> ReaderOptions:
    """Check options (values or their text from a command line) against the reader's record.

    Raises ParameterError naming the option, what it may be and what came.
    """
    try:
        return reader.options(**values)
    except ValidationError as error:
        raise ParameterError(_sentence(reader, error)) from error


def allows_links(values: Mapping[str, Any]) -> bool:
    """Whether options ask for links to be followed, known before there is a reader. Raises ParameterError."""
    value = values.get("allow_links", False)
    try:
        return TypeAdapter(bool).validate_python(value)
    except ValidationError as error:
        raise ParameterError(f"Option 'allow_links' is true or false; got {shown(value)}.") from error


def _known(options: list[str], name: str) -> str:
    """What there is instead: the options that are written most alike where there are many."""
    if len(options) <= FEW_OPTIONS:
        return f"its options are: {', '.join(options) or 'none'}"
    nearest = difflib.get_close_matches(name, options, FEW_OPTIONS, cutoff=0)
    return f"of its {len(options)} options these are most alike: {', '.join(nearest)}"


def _sentence(reader: Reader, error: ValidationError) -> str:
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"{reader.title} has no option '{name}'; {_known(list(reader.options.model_fields), name)}."
    return f"Option '{name}' of {reader.title}: {first['msg']}; got {shown(first['input'])}."
