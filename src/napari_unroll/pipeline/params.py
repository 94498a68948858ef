"""One place that turns a parameter record into forms, command-line options and YAML, and back.

Works on any pydantic record: a method's params, the run's Choices, a fit's options. Knows neither widgets nor typer.
"""

from __future__ import annotations

import enum
import re
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from napari_unroll.errors import ParameterError, shortened
from napari_unroll.record import Names, shown

Record = TypeVar("Record", bound=BaseModel)


@dataclass(frozen=True)
class FieldSpec:
    """One field as a form or a help text needs it.

    ``type`` is bool, int, float or str; ``choices`` the literals that a field takes beside (or instead of) values of
    its type; ``optional`` whether None is allowed; limits are inclusive, ``exclusive`` names those that are not;
    ``place`` is what a text may name (see ``record.Names``).
    """

    name: str
    type: type
    default: Any
    minimum: float | None = None
    maximum: float | None = None
    unit: str = ""
    help: str = ""
    choices: tuple[str, ...] = ()
    optional: bool = False
    exclusive: tuple[str, ...] = ()
    place: Literal["", "file", "folder"] = ""

    @property
    def free(self) -> bool:
        """Whether any value of ``type`` is allowed, not the choices only."""
        return not self.choices or self.type is not str


def fields(record: type[BaseModel]) -> list[FieldSpec]:
    """The record's fields that have a plain type, in order."""
    specs = (_spec(name, info) for name, info in record.model_fields.items())
    return [s for s in specs if s is not None]


def _spec(name: str, info: FieldInfo) -> FieldSpec | None:
    kinds, choices, optional = _unpack(info.annotation)
    if len(kinds) > 1 or not (kinds or choices) or kinds - {bool, int, float, str}:
        return None
    limits = _limits(info)
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    return FieldSpec(
        name=name,
        type=next(iter(kinds), str),
        default=None if info.default is PydanticUndefined else info.default,
        minimum=limits.get("ge", limits.get("gt")),
        maximum=limits.get("le", limits.get("lt")),
        unit=str(extra.get("unit", "")),
        help=info.description or "",
        choices=choices,
        optional=optional,
        exclusive=tuple(k for k in ("gt", "lt") if k in limits),
        place=next((item.what for item in _marks(info) if isinstance(item, Names)), ""),
    )


def _unpack(annotation: Any) -> tuple[set[type], tuple[str, ...], bool]:
    """Plain types, literals and whether None is allowed, of a possibly united annotation."""
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        parts = [_unpack(a) for a in typing.get_args(annotation)]
        return set().union(*(p[0] for p in parts)), sum((p[1] for p in parts), ()), any(p[2] for p in parts)
    if origin is Literal:
        words = typing.get_args(annotation)
        return {type(a) for a in words} - {str}, tuple(map(str, words)), False
    if origin is typing.Annotated:
        return _unpack(typing.get_args(annotation)[0])
    if annotation is type(None):
        return set(), (), True
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return set(), tuple(str(m.value) for m in annotation), False
    return {annotation}, (), False


def _limits(info: FieldInfo) -> dict[str, float]:
    """Limits of the field, or of the one annotated type in its union."""
    found: dict[str, float] = {}
    for item in _marks(info):
        for key in ("ge", "gt", "le", "lt"):
            value = getattr(item, key, None)
            if value is not None:
                found[key] = value
    return found


def _marks(info: FieldInfo) -> list[Any]:
    """What is annotated of the field, or of the one annotated type in its union."""
    return [*info.metadata, *_nested(info.annotation)]


def _nested(annotation: Any) -> list[Any]:
    """The metadata of annotated types inside a union."""
    items = [m for a in typing.get_args(annotation) if typing.get_origin(a) is typing.Annotated for m in a.__metadata__]
    return [part for item in items for part in (item.metadata if isinstance(item, FieldInfo) else [item])]


def build(record: type[Record], values: Mapping[str, Any], what: str = "") -> Record:
    """The checked record; raises ParameterError with one sentence per wrong field."""
    try:
        return record(**values)
    except ValidationError as error:
        raise ParameterError(_sentence(record, error, what)) from None


def _sentence(record: type[BaseModel], error: ValidationError, what: str) -> str:
    parts = []
    for item in error.errors():
        owner, name = _field_of(record, item["loc"])
        if item["type"] == "extra_forbidden":
            parts.append(f"no parameter {name!r}; it has {', '.join(owner.model_fields) or 'none'}")
        elif not item["loc"]:
            parts.append(_uncapitalised(item["msg"].removeprefix("Value error, ")))
        else:
            parts.append(f"{name}: {_uncapitalised(item['msg'])}; got {shown(item.get('input'))}")
    return f"{what or record.__name__}: {'; '.join(dict.fromkeys(parts))}."


def _field_of(record: type[BaseModel], loc: tuple[int | str, ...]) -> tuple[type[BaseModel], str]:
    """The record that an error is about and the field's name, with dots into nested records."""
    names: list[str] = []
    for part in loc:
        names.append(str(part))
        inner = record.model_fields[str(part)].annotation if str(part) in record.model_fields else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            break
        record = inner
    return record, ".".join(names) or record.__name__


def _uncapitalised(message: str) -> str:
    return message[:1].lower() + message[1:]


def parse_assignments(texts: Iterable[str]) -> dict[str, Any]:
    """``["strength=0.01", "positivity=false"]`` → values; each right-hand side is read as YAML."""
    values: dict[str, Any] = {}
    for text in texts:
        name, equals, right = text.partition("=")
        if not equals or not name.strip():
            raise ParameterError(f"Expected name=value; got {text!r}.")
        values[name.strip().replace("-", "_")] = _scalar(right.strip())
    return values


def _scalar(text: str) -> Any:
    """A YAML scalar.

    Also numbers like 1e-4, which YAML 1.1 takes for strings, and ranges like -45:45, which it takes for minutes.
    """
    if re.fullmatch(r"[-+.\d]+:[-+.\d]+", text):
        return text
    try:
        value = plain_yaml(text)
    except ValueError:
        return text
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def changed(record: BaseModel) -> dict[str, Any]:
    """The fields that differ from their defaults, as plain values."""
    return {k: v for k, v in record.model_dump(mode="json").items() if v != _default(type(record), k)}


def _default(record: type[BaseModel], name: str) -> Any:
    return record.model_fields[name].get_default(call_default_factory=True)


def to_options(record: BaseModel, flag: str = "--set") -> list[str]:
    """Command-line arguments that rebuild the record: ``["--set", "strength=0.01"]``; defaults are left out."""
    return [argument for k, v in changed(record).items() for argument in (flag, f"{k}={as_text(v)}")]


def as_text(value: Any) -> str:
    """A value as it is given on the command line, which reads YAML."""
    if isinstance(value, tuple):
        value = list(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, dict)) or value is None:
        return yaml.safe_dump(value, default_flow_style=True, width=10_000).replace("\n...", "").strip()
    return str(value)


def to_yaml(record: BaseModel) -> str:
    """Every field as YAML, each preceded by its description."""
    lines = []
    for name, value in record.model_dump(mode="json").items():
        help_text = record.__class__.model_fields[name].description
        lines += [f"# {help_text}"] if help_text else []
        lines.append(yaml.safe_dump({name: value}, sort_keys=False).strip())
    return "\n".join(lines) + "\n"


def one_line(values: Mapping[str, Any]) -> str:
    """Plain values as one line of YAML, which :func:`parse_yaml` reads."""
    return yaml.safe_dump(dict(values), default_flow_style=True, width=10**9).strip()


def from_yaml(record: type[Record], text: str) -> Record:
    """The record from YAML; raises ParameterError where it is no mapping or a field is wrong."""
    return build(record, parse_yaml(text))


def parse_yaml(text: str) -> dict[str, Any]:
    """A YAML mapping as plain values."""
    try:
        values = plain_yaml(text)
    except ValueError as error:
        raise ParameterError(f"Expected YAML with one parameter per line; {error}.") from None
    if not (isinstance(values, dict) and all(isinstance(name, str) for name in values)):
        raise ParameterError(f"Expected YAML with one 'name: value' per line; got {shown(values)}.")
    return values


def plain_yaml(text: str) -> Any:
    """The values of a YAML text, never more of them than its characters: aliases are refused.

    Raises ValueError, whatever the parser stumbles over.
    """
    try:
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text, Loader=yaml.SafeLoader)):
            raise ValueError("aliases (*name) are not read, write the values out")
        return yaml.safe_load(text)
    except Exception as error:  # its constructors raise nearly anything: !!int "" an IndexError
        raise ValueError(shortened(error, 150)) from None


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping of a YAML file; raises ParameterError where it cannot be read."""
    try:
        return parse_yaml(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise ParameterError(f"Expected a readable YAML file; {path}: {error}.") from None
