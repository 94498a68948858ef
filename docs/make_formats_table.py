"""Writes the table of formats in docs/formats.md from the registry: python docs/make_formats_table.py."""

import re
from pathlib import Path

from napari_unroll.io.table import formats_table

PAGE = Path(__file__).parent / "formats.md"
TABLE = re.compile(r"(?<=## Read\n\n)(\|.*\n)+")


def fill(page: str) -> str:
    """The page with the registry's table under its heading "Read"."""
    return TABLE.sub(lambda _: formats_table(), page)


if __name__ == "__main__":
    PAGE.write_text(fill(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
