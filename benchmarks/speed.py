"""How fast we are beside what others take: one table of ratios, ours / the rival's; below one ours is faster.

    python benchmarks/speed.py [--quick] [--only WORD] [--out benchmarks/results]

Both sides of a row run in turn in the same process, with as many threads as torch takes; counted is processor time, the least of
``REPEATS`` runs, after one that loads and plans. Each row is a function that returns a ``Row``: add yours to the ``ROWS`` of its
kind. Rows beside RTK run where the extra ``bench`` is installed.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import speed_classical
import speed_ct
import speed_mri
import speed_network
import speed_row
from speed_row import Row

from napari_unroll.environment import machine, software
from napari_unroll.io.atomic import write_text

HERE = Path(__file__).resolve().parent
ROWS = {**speed_mri.ROWS, **speed_ct.ROWS, **speed_classical.ROWS, **speed_network.ROWS}


def page(rows: list[Row]) -> str:
    """The Markdown table."""
    lines = [
        "# Speed beside others",
        "",
        f"`python benchmarks/speed.py`, {machine()}; processor seconds, the least of {speed_row.REPEATS} runs.",
        "A ratio below one: ours is faster. Difference: relative, between both results; none where the rival does less.",
        "",
        "| what | beside | ours / s | theirs / s | ratio | aim | difference |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        aim = "" if row.target is None else f"≤ {row.target:g}"
        difference = "" if row.difference is None else f"{row.difference:.1e}"
        lines.append(
            f"| {row.name} | {row.rival} | {row.ours_s:.3g} | {row.rival_s:.3g} | {row.ratio:.2f} | {aim} | {difference} |"
        )
    return "\n".join(lines) + "\n"


def write(rows: list[Row], folder: Path) -> None:
    """speed.json and speed.md."""
    folder.mkdir(parents=True, exist_ok=True)
    figures = [asdict(row) | {"ratio": row.ratio} for row in rows]
    facts = {"machine": machine(), "software": software(), "rows": figures}
    write_text(folder / "speed.json", json.dumps(facts, indent=1) + "\n")
    write_text(folder / "speed.md", page(rows))


def earlier(folder: Path) -> dict[str, Row]:
    """Rows by name that an earlier call wrote; they stay where only some are measured anew."""
    path = folder / "speed.json"
    kept = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.is_file() else []
    found = [Row(**{name: value for name, value in row.items() if name != "ratio"}) for row in kept]
    return {row.name: row for row in found}


def main(words: list[str] | None = None) -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it runs, not what it is worth")
    parser.add_argument("--only", default="", help="rows whose names contain this word; others stay as they were")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    given = parser.parse_args(words)
    rows = earlier(given.out) if given.only else {}
    for name, make in ROWS.items():
        if given.only in name:
            row = make(given.quick)
            rows[row.name] = row
            print(page([row]).splitlines()[-1], flush=True)
            write(list(rows.values()), given.out)


if __name__ == "__main__":
    main()
