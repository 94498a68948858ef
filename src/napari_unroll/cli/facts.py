"""Facts as text for a terminal; needs no numerics, so that a command that only tells begins at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import typer


def print_facts(facts: Mapping[str, Any]) -> None:
    """One aligned line per fact; lists and mappings get a line per item."""
    width = max((len(str(k)) for k in facts), default=0)
    for name, value in facts.items():
        lines = _lines(value)
        typer.echo(f"{name!s:<{width}}  {lines[0]}")
        for line in lines[1:]:
            typer.echo(f"{'':<{width}}  {line}")


def _lines(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        width = max((len(str(k)) for k in value), default=0)
        return [f"{k!s:<{width}}  {_text(v)}" for k, v in value.items()] or ["none"]
    if isinstance(value, list):
        return [_text(v) for v in value] or ["none"]
    return [_text(value)]


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, tuple):
        return ", ".join(_text(v) for v in value)
    return str(value)
