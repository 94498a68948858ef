"""The numbers of a fit in words, for docks and terminals alike."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

NORMS = {
    "final": "caused in the final image",
    "image": "on image-like volumes",
    "gaussian": "on white noise",
}
"""Kind of held-out vector → what its relative error is about, the most telling first."""


def percent(value: float | None) -> str:
    """A relative error as people read it; a dash where it was not measured."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{100 * value:.3g} %" if value >= 1e-4 else f"{value:.1e}"


def error(info: Mapping[str, Any], kind: str) -> str:
    """Relative error with its standard error, such as "2.5 ± 0.03 %"; empty where it was not measured."""
    value, sem = info.get(f"error_{kind}"), info.get(f"error_{kind}_sem", 0.0)
    if value is None:
        return ""
    return f"{100 * value:.3g} ± {100 * sem:.1g} %" if value >= 1e-4 and sem > 0 else percent(value)


def advise(info: Mapping[str, Any]) -> str:
    """What a fit's numbers mean, in a sentence."""
    known = [f"{text} {words}" for kind, words in NORMS.items() if (text := error(info, kind))]
    if not known:
        return "The normal operator is fitted; its error was not measured."
    return f"The normal operator is fitted: relative error {', '.join(known)}."


def facts(info: Mapping[str, Any]) -> dict[str, str]:
    """Name → text of everything that a fit reports, errors first."""
    out = {f"error {words}": text for kind, words in NORMS.items() if (text := error(info, kind))}
    out["exact applications"] = f"{info.get('operator_calls', 0):.0f} to fit, {info.get('test_calls', 0):.0f} to judge"
    out["seconds"] = f"{info.get('seconds', 0):.3g}"
    if "support" in info:
        out["kernel"] = f"lags below {info['support']} voxels: for patches up to that size"
    return out
