"""Every registered method on held-out scans: writes docs/results.md and docs/results.json.

    python benchmarks/results.py [--quick] [--size 64] [--n 3] [--volumes FOLDER] [--volume-sizes 64 128]
                                 [--suite all] [--methods …] [--out docs]

The same as ``napari-unroll evaluate`` with these defaults; see docs/evaluation.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from napari_unroll.cli.evaluate import run_evaluation
from napari_unroll.pipeline.evaluate import EvaluationPlan


def main() -> None:
    """Parse, run, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", type=int, default=64, help="voxels along an edge")
    parser.add_argument("--n", type=int, default=3, help="generated scans per task and level")
    parser.add_argument("--quick", action="store_true", help="one scan each, on 32³ voxels")
    parser.add_argument("--volumes", help="folder of measured volumes")
    parser.add_argument("--volume-sizes", type=int, nargs="*", default=(), help="voxels along an edge of their scans")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parents[1] / "docs")
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


if __name__ == "__main__":
    main()
