"""The base of every typed record: options, parameters, choices, plans. Knows nothing of what a record is for."""

from __future__ import annotations

import reprlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Annotated, Any, Literal, ParamSpec, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, validate_call

from napari_unroll.errors import ParameterError

P = ParamSpec("P")
T = TypeVar("T")


LARGEST_SEED = 2**31 - 1
"""Of every random generator that a record may name; several are counted up from it."""


class Record(BaseModel):
    """Frozen, no unknown fields, finite numbers only. Field descriptions become tooltips and help."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True)
class Names:
    """Marks a text that names a file or a folder, or may do so: forms let the user browse for it."""

    what: Literal["file", "folder"]


FileName = Annotated[str, Names("file")]
FolderName = Annotated[str, Names("folder")]


_short = reprlib.Repr()
_short.maxstring = _short.maxother = _short.maxlong = 60


def shown(value: Any) -> str:
    """A value as an error repeats it: never longer than a glance takes."""
    return _short.repr(value)


def checked(function: Callable[P, T]) -> Callable[P, T]:
    """The function with its arguments held to their annotations, as a record's fields are. Raises ParameterError."""
    call = validate_call(config=ConfigDict(allow_inf_nan=False))(function)

    @wraps(function)
    def checking(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return call(*args, **kwargs)
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"])
            raise ParameterError(f"Option {name!r}: {first['msg']}; got {shown(first['input'])}.") from None

    return checking
