"""What an evaluation's rows say together: means and spreads, paired comparisons, and both as a page.

Knows rows only (see ``evaluate``).
"""

from __future__ import annotations

import statistics
import textwrap
from collections.abc import Sequence
from typing import Any

from scipy.stats import t as student

from napari_unroll.pipeline.evaluate import Row
from napari_unroll.pipeline.held_out import LEVEL_NAMES

REFERENCE = "unrolled-pgd"
ALL = "all data"
"""Name of all kinds of data of a task together."""
DIGITS = {"psnr": 3, "ssim": 4, "nrmse": 4, "residual": 5, "seconds": 2, "peak_memory_mib": 1}
WITH_DEVIATION = ("psnr", "ssim", "nrmse")
LEVEL_FORMATS = {
    "cone-beam": "{:g} views",
    "parallel-beam": "{:g} views",
    "multi-coil": "R = {:g}",
    "image": "factor {:g}",
}


def level(row: Row) -> float:
    """Number of views, acceleration or downsampling factor."""
    return float(row[LEVEL_NAMES[row["task"]]])


def _key(row: Row) -> tuple[Any, ...]:
    return row["task"], row["data"], level(row)


def means(rows: Sequence[Row]) -> list[Row]:
    """One row per task, data, level and method: means, ``…_std`` (None for one scan), and the number of scans ``n``."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault((*_key(row), row["method"]), []).append(row)
    return [_mean(group) for group in groups.values()]


def _mean(group: list[Row]) -> Row:
    row = {k: v for k, v in group[0].items() if k != "scan"}
    for name, digits in DIGITS.items():
        row[name] = round(statistics.fmean(r[name] for r in group), digits)
    for name in WITH_DEVIATION:
        row[f"{name}_std"] = round(statistics.stdev(r[name] for r in group), DIGITS[name]) if len(group) > 1 else None
    return row | {"ood": any(r["ood"] for r in group), "n": len(group)}


def comparisons(rows: Sequence[Row], reference: str = REFERENCE) -> list[Row]:
    """PSNR of ``reference`` minus that of every other method on the same scans, per task, data and level.

    ``gain`` is the mean difference in dB, ``ci95`` its 95 % confidence interval by the paired t distribution (None for one
    scan), ``wins`` the number of scans on which the reference is better. Where a task has several kinds of data, their scans
    together are one more, ``ALL``.
    """
    scores: dict[tuple[Any, ...], dict[str, dict[Any, float]]] = {}
    for row in (*rows, *_pooled(rows)):
        scores.setdefault(_key(row), {}).setdefault(row["method"], {})[row["scan"]] = row["psnr"]
    found = []
    for (task, data, at), methods in scores.items():
        ours = methods.pop(reference, {})
        for method, theirs in methods.items():
            differences = [ours[scan] - theirs[scan] for scan in ours.keys() & theirs.keys()]
            if differences:
                about = {"task": task, "data": data, LEVEL_NAMES[task]: at, "method": reference, "against": method}
                found.append(about | paired_t_interval(differences))
    return found


def _pooled(rows: Sequence[Row]) -> list[Row]:
    """The rows of tasks with several kinds of data, as one kind."""
    kinds: dict[str, set[str]] = {}
    for row in rows:
        kinds.setdefault(row["task"], set()).add(row["data"])
    return [{**r, "data": ALL, "scan": (r["data"], r["scan"])} for r in rows if len(kinds[r["task"]]) > 1]


def paired_t_interval(differences: Sequence[float]) -> Row:
    """Mean, 95 % confidence interval and number of positive ones of paired differences."""
    n, gain = len(differences), statistics.fmean(differences)
    interval = None
    if n > 1:
        half = float(student.ppf(0.975, n - 1)) * statistics.stdev(differences) / n**0.5
        interval = [round(gain - half, 3), round(gain + half, 3)]
    return {"gain": round(gain, 3), "ci95": interval, "wins": sum(d > 0 for d in differences), "n": n}


def tables(rows: Sequence[Row]) -> list[str]:
    """Markdown lines: a table per task and data, below each what the reference gains, and at the end its gains on all data."""
    lines: list[str] = []
    averaged, gains = means(rows), comparisons(rows)
    for task, data in dict.fromkeys((r["task"], r["data"]) for r in averaged):
        lines += ["", *_table(_select(averaged, task, data)), *_comparison_lines(_select(gains, task, data))]
    for task in dict.fromkeys(g["task"] for g in gains if g["data"] == ALL):
        lines += ["", f"## {task}, {ALL}", *_comparison_lines(_select(gains, task, ALL))]
    return lines[1:]


def paragraph(text: str) -> str:
    """The text in lines of at most 118 characters, as the pages under docs/ are written; words are not broken."""
    return textwrap.fill(text, 118, break_long_words=False, break_on_hyphens=False)


def _select(rows: Sequence[Row], task: str, data: str) -> list[Row]:
    return [row for row in rows if (row["task"], row["data"]) == (task, data)]


def _table(rows: Sequence[Row]) -> list[str]:
    task, levels, n = rows[0]["task"], sorted({level(r) for r in rows}), max(r["n"] for r in rows)
    other = ", out of distribution for the networks" if any(r["ood"] for r in rows) else ""
    head = [f"## {task}, {rows[0]['data']} ({n} scan{'s' if n > 1 else ''} each{other})", ""]
    head += [
        "| method | " + " | ".join(LEVEL_FORMATS[task].format(at) for at in levels) + " |",
        "|---" * (len(levels) + 1) + "|",
    ]
    cells = {(r["method"], level(r)): _cell(r) for r in rows}
    methods = dict.fromkeys(r["method"] for r in rows)
    return head + [f"| {m} | " + " | ".join(cells.get((m, at), "") for at in levels) + " |" for m in methods]


def _cell(row: Row) -> str:
    spread = "" if row["psnr_std"] is None else f" ± {row['psnr_std']:.2f}"
    return f"{row['psnr']:.2f}{spread} / {row['ssim']:.3f} / {row['residual']:.2%} / {row['seconds']:.1f} s"


def _comparison_lines(found: Sequence[Row]) -> list[str]:
    lines = [
        f"* against {g['against']} at {LEVEL_FORMATS[g['task']].format(level(g))}: {_format_gain(g)}" for g in found
    ]
    return ["", f"{REFERENCE}, PSNR on the same scans:", "", *lines] if lines else []


def _format_gain(g: Row) -> str:
    interval = "" if g["ci95"] is None else f" (95 %: {g['ci95'][0]:+.2f} to {g['ci95'][1]:+.2f})"
    return f"{g['gain']:+.2f} dB{interval}, better on {g['wins']} of {g['n']}"
