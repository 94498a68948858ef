"""The readers as a table for docs/formats.md, which a test compares with the page; it knows only their records."""

from __future__ import annotations

from napari_unroll.io.reader import Reader
from napari_unroll.io.registry import READERS


def formats_table() -> str:
    """Markdown: one row per reader, in the order of the names that people see."""
    rows = ["| format | suffixes | found by | what else it holds |", "|---|---|---|---|"]
    return "\n".join([*rows, *map(_row, sorted(READERS, key=lambda reader: reader.title.lower()))]) + "\n"


def _row(reader: Reader) -> str:
    suffixes = ", ".join(f"`{suffix}`" for suffix in reader.extensions) or "a folder"
    return f"| {' | '.join((reader.title, suffixes, reader.expects, reader.holds))} |"
