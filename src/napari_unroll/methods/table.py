"""The registry as a table for the documentation, which a test compares with the page."""

from __future__ import annotations

from napari_unroll.methods.problem import Method
from napari_unroll.methods.registry import METHODS
from napari_unroll.scan.scan import MODALITIES


def methods_table() -> str:
    """Markdown: one row per method, in the registry's order."""
    rows = ["| name | method | for | learned | patches | source |", "|---|---|---|---|---|---|"]
    return "\n".join([*rows, *map(_row, METHODS.values())]) + "\n"


def _row(method: Method) -> str:
    learned = "trained here" if method.learning else "weights needed" if method.needs_weights else ""
    patches = "yes" if method.patchwise else ""
    modalities = ", ".join(title for m, title in MODALITIES.items() if m in method.modalities)
    cells = (f"`{method.name}`", method.title, modalities, learned, patches, method.source)
    return f"| {' | '.join(cells)} |"
