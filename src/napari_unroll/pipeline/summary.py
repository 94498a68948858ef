"""What an evaluation's rows say together: means and spreads, paired comparisons, and both as a page.

Knows rows only (see ``evaluate``).
"""

from __future__ import annotations

import math
import statistics
import textwrap
from collections.abc import Sequence
from typing import Any

from scipy.stats import t as student

from napari_unroll.pipeline.evaluate import Row
from napari_unroll.pipeline.held_out import LEVEL_NAMES, PARTS

REFERENCE = "unrolled-pgd"
RIVAL = "tv-fista"
"""What a learned method has to be better than."""
DIGITS = {"psnr": 3, "left_out": 6, "ssim": 4, "nrmse": 4, "residual": 5, "seconds": 2, "peak_memory_mib": 1}
WITH_DEVIATION = ("psnr", "left_out", "ssim", "nrmse")
LEAST_ERROR = 0.01
"""Of the noise of left-out measurements: less cannot be told from none."""
LEVEL_FORMATS = {
    "cone-beam": "{:g} views",
    "parallel-beam": "{:g} views",
    "multi-coil": "R = {:g}",
    "image": "factor {:g}",
}


def level(row: Row) -> float:
    """Number of views, acceleration or downsampling factor."""
    return float(row[LEVEL_NAMES[row["task"]]])


def score(row: Row) -> float:
    """dB, more is better: of the error of left-out measurements −10 log₁₀, without their noise where it is known; else the PSNR.

    A measured reference shares its noise with what methods see, so that a PSNR against it praises those that keep it.
    """
    if "left_out" not in row:
        return float(row["psnr"])
    noise = row.get("left_out_noise", 0.0)
    return -10 * math.log10(max(row["left_out"] - noise, LEAST_ERROR * noise, 1e-30))


def _key(row: Row) -> tuple[Any, ...]:
    return row["part"], row["task"], row["data"], level(row)


def means(rows: Sequence[Row]) -> list[Row]:
    """One row per part, task, data, level and method: means, ``…_std`` (None for one scan), and the number of scans ``n``."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault((*_key(row), row["method"]), []).append(row)
    return [_mean(group) for group in groups.values()]


def _mean(group: list[Row]) -> Row:
    row = {k: v for k, v in group[0].items() if k != "scan"}
    for name, digits in DIGITS.items():
        if name in row:
            row[name] = round(statistics.fmean(r[name] for r in group), digits)
            if name in WITH_DEVIATION:
                several = len(group) > 1
                row[f"{name}_std"] = round(statistics.stdev(r[name] for r in group), digits) if several else None
    lost = [r.get("converged") is False for r in group]
    out = [r.get("domain") == "out" for r in group]
    return row | {
        "ood": any(r["ood"] for r in group),
        "domain": "out" if any(out) else row.get("domain"),
        "converged": not any(lost) if row.get("converged") is not None else None,
        "n": len(group),
    }


def comparisons(rows: Sequence[Row], reference: str = REFERENCE) -> list[Row]:
    """Score of ``reference`` minus that of every other method on the same scans, per part, task, data and level.

    ``gain`` is the mean difference in dB, ``ci95`` its 95 % confidence interval by the paired t distribution (None for one
    scan), ``wins`` the number of scans on which the reference is better.
    """
    scores: dict[tuple[Any, ...], dict[str, dict[Any, float]]] = {}
    for row in rows:
        scores.setdefault(_key(row), {}).setdefault(row["method"], {})[row["scan"]] = score(row)
    found = []
    for (part, task, data, at), methods in scores.items():
        ours = methods.pop(reference, {})
        for method, theirs in methods.items():
            differences = [ours[scan] - theirs[scan] for scan in ours.keys() & theirs.keys()]
            if differences:
                about = {"part": part, "task": task, "data": data, LEVEL_NAMES[task]: at, "method": reference}
                found.append(about | {"against": method} | paired_t_interval(differences))
    return found


def paired_t_interval(differences: Sequence[float]) -> Row:
    """Mean, 95 % confidence interval and number of positive ones of paired differences."""
    n, gain = len(differences), statistics.fmean(differences)
    interval = None
    if n > 1:
        half = float(student.ppf(0.975, n - 1)) * statistics.stdev(differences) / n**0.5
        interval = [round(gain - half, 3), round(gain + half, 3)]
    return {"gain": round(gain, 3), "ci95": interval, "wins": sum(d > 0 for d in differences), "n": n}


def tables(rows: Sequence[Row]) -> list[str]:
    """Markdown lines: a heading per part, in it a table per task and data that ends with the reference's gain over RIVAL."""
    lines: list[str] = []
    averaged, gains = means(rows), [g for g in comparisons(rows) if g["against"] == RIVAL]
    kinds = list(dict.fromkeys((r["part"], r["task"], r["data"]) for r in averaged))
    for part in PARTS:
        own = [kind for kind in kinds if kind[0] == part]
        lines += ["", f"## {PARTS[part]}"] if own else []
        for kind in own:
            lines += ["", *_table(_select(averaged, kind), _select(gains, kind))]
    return lines[1:]


def paragraph(text: str) -> str:
    """The text in lines of at most 118 characters, as the pages under docs/ are written; words are not broken."""
    return textwrap.fill(text, 118, break_long_words=False, break_on_hyphens=False)


def _select(rows: Sequence[Row], kind: tuple[str, str, str]) -> list[Row]:
    return [row for row in rows if (row["part"], row["task"], row["data"]) == kind]


def _table(rows: Sequence[Row], gains: Sequence[Row]) -> list[str]:
    task, levels, n = rows[0]["task"], sorted({level(r) for r in rows}), max(r["n"] for r in rows)
    other = ", other objects than those of the training" if any(r["ood"] for r in rows) else ""
    head = [f"### {task}, {rows[0]['data']} ({n} scan{'s' if n > 1 else ''} each{other})", ""]
    head += [
        _line(*(LEVEL_FORMATS[task].format(at) for at in levels), first="method"),
        "|---" * (len(levels) + 1) + "|",
    ]
    methods = dict.fromkeys(r["method"] for r in rows)
    body = [_line(*(_cell(rows, m, at) for at in levels), first=m) for m in methods]
    margins = {level(g): _format_gain(g) for g in gains}
    if margins:
        body.append(_line(*(margins.get(at, "") for at in levels), first=f"*{REFERENCE} over {RIVAL}*"))
    domains = {level(r): r["domain"] for r in rows if r["method"] == REFERENCE and r.get("domain")}
    if domains:
        body.append(_line(*(domains.get(at, "") for at in levels), first="*in the domain of its weights*"))
    noises = {level(r): r.get("noise") or "" for r in rows}
    if any(noises.values()) and rows[0]["part"] != "generated":
        body.append(_line(*(noises[at].split(" (")[0] for at in levels), first="*noise*"))
    return head + body


def _line(*cells: str, first: str) -> str:
    return f"| {' | '.join((first, *cells))} |"


def _cell(rows: Sequence[Row], method: str, at: float) -> str:
    row = next((r for r in rows if r["method"] == method and level(r) == at), None)
    if row is None:
        return ""
    lost = ", not converged" if row.get("converged") is False else ""
    cost = f"{row['residual']:.2%} / {row['seconds']:.1f} s{lost}"
    left_out = f"{row['left_out']:.3%} / " if "left_out" in row else ""
    if "psnr" not in row:
        return f"{left_out}{cost}"
    spread = "" if row["psnr_std"] is None else f" ± {row['psnr_std']:.2f}"
    return f"{row['psnr']:.2f}{spread} / {row['ssim']:.3f} / {left_out}{cost}"


def _format_gain(g: Row) -> str:
    interval = "" if g["ci95"] is None else f" ({g['ci95'][0]:+.2f} to {g['ci95'][1]:+.2f}), {g['wins']} of {g['n']}"
    return f"{g['gain']:+.2f} dB{interval}"
