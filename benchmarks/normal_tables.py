"""The tables of benchmarks/normal.py as Markdown, and where they stand in the documentation."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

ROWS: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "case": lambda r: r["case"],
    "size": lambda r: f"{r['size']}³",
    "form": lambda r: r["form"],
    "fit": lambda r: r["fit"],
    "exact": lambda r: "yes" if r["exact"] else "",
    "error (noise)": lambda r: _error(r, "gaussian"),
    "error (images)": lambda r: _error(r, "image"),
    "error (final image)": lambda r: _error(r, "final"),
    "applications of N": lambda r: r["operator_calls"],
    "seconds": lambda r: f"{r['seconds']:.1f}",
}
"""Column → its text in a row of the benchmark."""


def _error(row: Mapping[str, Any], kind: str) -> str:
    value, sem = row[f"error_{kind}"], row.get(f"error_{kind}_sem", 0.0)
    if value < 1e-3:
        return f"{value:.1e}"
    return f"{value:.3f} ± {sem:.3f}" if sem >= 5e-4 else f"{value:.4f}"


def header(columns: Sequence[str] | Mapping[str, Any]) -> str:
    """The first two lines of a table."""
    return "| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|"


def line(row: Mapping[str, Any], columns: Mapping[str, Callable[[Mapping[str, Any]], Any]]) -> str:
    """One line of a table."""
    return "| " + " | ".join(str(text(row)) for text in columns.values()) + " |"


def table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, Callable[[Mapping[str, Any]], Any]]) -> str:
    """A whole table."""
    return "\n".join([header(columns), *(line(row, columns) for row in rows)])


def _number(name: str, form: str = ".4f") -> Callable[[Mapping[str, Any]], str]:
    return lambda row: format(row[name], form)


def _milliseconds(name: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda row: "–" if row[name] is None else f"{1e3 * row[name]:.2f}"


COLUMNS: dict[str, dict[str, Callable[[Mapping[str, Any]], Any]]] = {
    "rows": ROWS,
    "optimum": {"": lambda r: r["form"], "error": _number("error", ".3f")},
    "speed": {
        "case": lambda r: r["case"],
        "form": lambda r: r["form"],
        "patch": lambda r: "×".join(map(str, r["patch"])),
        "N, whole": _milliseconds("whole_exact"),
        "Ñ, whole": _milliseconds("whole_approximated"),
        "N on the patch": _milliseconds("patch_exact"),
        "Ñ on the patch": _milliseconds("patch_approximated"),
        "its bare FFTs": _milliseconds("bare_transforms"),
        "N / Ñ, whole": lambda r: f"{r['whole_exact'] / r['whole_approximated']:.1f}",
        "N whole / Ñ patch": lambda r: f"{r['whole_exact'] / r['patch_approximated']:.0f}",
    },
    "final_image": {
        "form": lambda r: r["form"],
        "caused difference": _number("caused"),
        "error before": _number("start"),
        "after, with N": _number("exact"),
        "after, with Ñ": _number("approximated"),
    },
    "large": {
        "kernel": lambda r: r["fit"],
        "images, on patches": _number("patch_image"),
        "images, whole volume": _number("whole_image"),
        "noise, on patches": _number("patch_gaussian"),
        "noise, whole volume": _number("whole_gaussian"),
    },
}


def _preconditioning(curves: Mapping[str, Sequence[float]]) -> str:
    plain, helped = curves["plain"], curves["preconditioned"]
    names = ["iteration", *(str(k + 1) for k in range(len(plain)))]
    lines = [header(names)]
    for name, values in (("plain", plain), ("preconditioned by Ñ", helped)):
        lines.append("| " + " | ".join([name, *(f"{v:.3f}" for v in values)]) + " |")
    needed = next((k + 1 for k, v in enumerate(helped) if v <= plain[-1]), None)
    if needed is not None:
        lines.append(f"\n{needed} preconditioned iterations do what {len(plain)} plain ones do.")
    return "\n".join(lines)


def render(name: str, value: Any) -> str:
    """The Markdown of one part of a report."""
    return _preconditioning(value) if name == "preconditioning" else table(value, COLUMNS[name])


def fill(page: str, report: Mapping[str, Any]) -> str:
    """The page with every part of the report between its marks ``<!-- benchmark: name -->`` and ``<!-- end -->``."""

    def part(match: re.Match[str]) -> str:
        name = match.group(1)
        text = f"Measured on: {report['machine']}." if name == "machine" else render(name, report[name])
        return f"<!-- benchmark: {name} -->\n{text}\n<!-- end -->"

    return re.sub(r"<!-- benchmark: (\w+) -->.*?<!-- end -->", part, page, flags=re.DOTALL)
