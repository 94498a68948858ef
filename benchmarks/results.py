"""Every registered method on held-out scans: writes docs/results.md and docs/results.json.

    python benchmarks/results.py [--quick] [--size 64] [--n 3] [--volumes FOLDER] [--volume-sizes 64 128]
                                 [--suite all] [--methods …] [--out docs]

The same as ``napari-unroll evaluate`` with these defaults; see docs/evaluation.md. The page ends with the run that large.py has
measured.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from napari_unroll.cli.evaluate import run_evaluation
from napari_unroll.io.atomic import write_text
from napari_unroll.pipeline.evaluate import EvaluationPlan

ROOT = Path(__file__).resolve().parents[1]
LARGE = ROOT / "benchmarks" / "results" / "large.json"


def full_size(row: dict[str, Any]) -> str:
    """The section of a row that large.py measured."""
    n, stages = row["size"], row["stages"]
    heads = ["method", "PSNR", "of its start", "processor minutes", "of them the fit", "own memory, GB"]
    cells = [
        row["method"], f"{row['psnr']:.2f}", f"{row['psnr_of_start']:.2f}", f"{row['processor_s'] / 60:.1f}",
        f"{stages['fitting the normal operator'] / 60:.1f}", f"{row['peak_bytes'] / 1e9:.1f}",
    ]  # fmt: skip
    return f"""
## One generated scan of {n}³ voxels

A walnut seen in {row["views"]} views of a cone beam, {row["threads"]} threads, by `python benchmarks/large.py`; its stages and
memory are in [Large volumes](scale.md#at-full-size-by-a-network). Its start is total variation of 60 steps. It has
fewer views per voxel than the weights were trained for, which the plan says.

| {" | ".join(heads)} |
{"|---" * len(heads)}|
| {" | ".join(cells)} |
"""


def main() -> None:
    """Parse, run, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", type=int, default=64, help="voxels along an edge")
    parser.add_argument("--n", type=int, default=3, help="generated scans per task and level")
    parser.add_argument("--quick", action="store_true", help="one scan each, on 32³ voxels")
    parser.add_argument("--volumes", help="folder of measured volumes")
    parser.add_argument("--volume-sizes", type=int, nargs="*", default=(), help="voxels along an edge of their scans")
    parser.add_argument("--out", type=Path, default=ROOT / "docs")
    parser.add_argument("--suite", default="generated", help="generated, real or all (NAPARI_UNROLL_DATA)")
    parser.add_argument("--methods", nargs="*", default=(), help="none: every one that applies")
    given = parser.parse_args()
    size, n = (32, 1) if given.quick else (given.size, given.n)
    run_evaluation(
        EvaluationPlan(
            suite=given.suite,
            size=size,
            n=n,
            volumes=given.volumes,
            volume_sizes=tuple(given.volume_sizes),
            methods=tuple(given.methods),
        ),
        given.out,
    )
    page = given.out / "results.md"
    write_text(page, page.read_text(encoding="utf-8") + full_size(json.loads(LARGE.read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main()
