"""Part of the Scan dock: the facts of a scan as rich text, sorted by where they come from. Knows no widgets."""

from __future__ import annotations

import html
from typing import Any

from napari_unroll.io import registry
from napari_unroll.scan.scan import MODALITIES, Scan

SMALL_UNITS = {"nm": (1e-4, 1e6), "µm": (1e-2, 1e3)}
"""Unit → below how many mm a length is told in it, and how many of it are a mm."""


def facts_html(scan: Scan) -> str:
    """The facts of a scan as a small tree by where they come from, contradictions first, and its notes."""
    facts = registry.grouped(registry.summary(scan))
    notes, doubts = facts.pop("notes", []), facts.pop("contradictions", [])
    rows = "".join(
        f"<tr><td colspan='2'><b>{origin.capitalize()}</b></td></tr>"
        + "".join(
            f"<tr><td>&nbsp;&nbsp;{_title(name)}&nbsp;&nbsp;</td><td>{html.escape(_plain(value))}</td></tr>"
            for name, value in (_readable(*fact) for fact in group.items())
        )
        for origin, group in facts.items()
    )
    warnings = "".join(f"<p><b>{html.escape(doubt)}</b></p>" for doubt in doubts)
    items = "".join(f"<li>{html.escape(note)}</li>" for note in notes)
    return f"{warnings}<table>{rows}</table>" + (f"<ul style='margin-left:-22px'>{items}</ul>" if items else "")


def _readable(name: str, value: Any) -> tuple[str, Any]:
    """A fact whose lengths are in nm or µm where they are hardly anything in mm."""
    lengths = value if isinstance(value, tuple) else (value,)
    if not name.endswith(" mm") or not all(isinstance(v, float) for v in lengths):
        return name, value
    unit = next((u for u in SMALL_UNITS if max(map(abs, lengths)) < SMALL_UNITS[u][0]), None)
    if unit is None:
        return name, value
    return f"{name.removesuffix(' mm')} {unit}", tuple(v * SMALL_UNITS[unit][1] for v in lengths)


def _title(name: str) -> str:
    words = html.escape(name).capitalize()
    for word, unit in ((" mm", " (mm)"), (" µm", " (µm)"), (" nm", " (nm)"), (" deg", " (°)")):
        words = words.removesuffix(word) + unit if words.endswith(word) else words
    return words


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, tuple):
        joint = " × " if all(isinstance(v, int) for v in value) else ", "
        same = len(set(value)) == 1 and isinstance(value[0], float)
        return _plain(value[0]) if same else joint.join(_plain(v) for v in value)
    return MODALITIES.get(value, str(value))
