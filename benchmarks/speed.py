"""How fast the operators are beside what others take: one table of ratios, ours / the rival's; below one ours is faster.

    python benchmarks/speed.py [--quick] [--only WORD] [--out benchmarks/results]

Both sides of a row run in turn in the same process, with as many threads as torch takes; counted is processor time, the least of
``REPEATS`` runs, after one that loads and plans. Each row is a function that returns a ``Row``: add yours to ``ROWS``.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import finufft
import numpy as np
import torch

from napari_unroll.environment import machine, software
from napari_unroll.io.atomic import write_text
from napari_unroll.methods.problem import Problem, measured
from napari_unroll.methods.registry import get
from napari_unroll.physics.laws import norm, random_like
from napari_unroll.physics.nufft import TOLERANCE, NonCartesianMRI
from napari_unroll.scan.geometry import VolumeGrid
from napari_unroll.scan.phantoms import brain, coil_maps
from napari_unroll.scan.scan import Scan
from napari_unroll.scan.trajectories import NonCartesianSampling, radial_2d, radial_3d

HERE = Path(__file__).resolve().parent
REPEATS = 3


@dataclass(frozen=True)
class Row:
    """One comparison: processor seconds of ours and of the ``rival``, ‖ours − rival's‖ / ‖rival's‖, and the ratio aimed at."""

    name: str
    rival: str
    ours_s: float
    rival_s: float
    difference: float
    target: float | None = None

    @property
    def ratio(self) -> float:
        """Ours / the rival's."""
        return self.ours_s / self.rival_s


def seconds(run: Callable[[], Any]) -> float:
    """Processor seconds, the least of some runs."""
    times = []
    for _ in range(REPEATS):
        begun = time.process_time()
        run()
        times.append(time.process_time() - begun)
    return min(times)


def against(
    name: str, rival: str, ours: Callable[[], torch.Tensor], other: Callable[[], Any], target: float | None = None
) -> Row:
    """A row from two ways to compute the same."""
    found, expected = ours(), torch.as_tensor(other())
    difference = norm(found.reshape(expected.shape) - expected) / norm(expected)
    return Row(name, rival, seconds(ours), seconds(other), difference, target)


@cache
def radial(quick: bool, is_3d: bool = False) -> NonCartesianMRI:
    """One slice of 256² along 400 spokes, or 64³ along 800; 8 coils."""
    n, spokes = (16, 20) if quick else (64, 800) if is_3d else (256, 400)
    shape = (n, n, n) if is_3d else (1, n, n)
    trajectory = (radial_3d if is_3d else radial_2d)(spokes, 2 * n)
    sampling = NonCartesianSampling(trajectory=trajectory, shape=shape, n_coils=8)
    return NonCartesianMRI(sampling, coil_maps(shape, 8, 0))


def finufft_plan(physics: NonCartesianMRI) -> finufft.Plan:
    """Of all coils at once, made beforehand."""
    axes = [axis for axis, n in enumerate(physics.grid.shape) if n > 1]
    modes, k = tuple(physics.grid.shape[axis] for axis in axes), physics.sampling.trajectory.reshape(-1, 3)
    n_threads = torch.get_num_threads()
    plan = finufft.Plan(2, modes, len(physics.csm), TOLERANCE, -1, "complex128", nthreads=n_threads)
    plan.setpts(*(np.ascontiguousarray(2 * np.pi * k[:, axis]) for axis in axes))
    return plan


def title(physics: NonCartesianMRI) -> str:
    """Voxels and spokes."""
    z, y, x = physics.grid.shape
    voxels = f"{y} × {x}" if z == 1 else f"{z} × {y} × {x}"
    return f"radial {voxels}, {physics.sampling.trajectory.shape[0]} spokes, {len(physics.csm)} coils"


def nufft_forward(quick: bool, is_3d: bool = False) -> Row:
    """A x, beside finufft on coil images that exist already."""
    physics = radial(quick, is_3d)
    x, plan = random_like(physics.x_shape, physics.dtype, "cpu", 0), finufft_plan(physics)
    images = (physics.csm * x)[0].reshape(len(physics.csm), *(n for n in physics.grid.shape if n > 1))
    images = images.numpy().astype(np.complex128) / np.sqrt(images[0].numel())
    rival = "finufft, all coils"
    return against(f"{title(physics)}: A", rival, lambda: physics.A(x), lambda: plan.execute(images), 1.1)


def nufft_adjoint(quick: bool, is_3d: bool = False) -> Row:
    """Aᴴ y, beside finufft without the coils' combination."""
    physics = radial(quick, is_3d)
    y, plan = random_like(physics.y_shape, physics.dtype, "cpu", 1), finufft_plan(physics)
    samples = y.reshape(len(physics.csm), -1).numpy().astype(np.complex128)
    ours, other = (lambda: physics.A_adjoint(y)), (lambda: plan.execute_adjoint(samples))
    scale = physics.csm.shape[1:].numel() ** -0.5
    images = torch.from_numpy(other()).reshape(physics.csm.shape) * scale
    expected = (physics.csm.conj() * images).sum(0)
    difference = norm(ours()[0, 0] - expected) / norm(expected)
    return Row(f"{title(physics)}: Aᴴ", "finufft, all coils", seconds(ours), seconds(other), difference, 1.1)


def toeplitz(quick: bool, is_3d: bool = False) -> Row:
    """AᴴA x, beside A and Aᴴ."""
    physics = radial(quick, is_3d)
    x = random_like(physics.x_shape, physics.dtype, "cpu", 2)
    name = f"{title(physics)}: AᴴA"
    return against(name, "A and Aᴴ", lambda: physics.normal(x), lambda: physics.A_adjoint(physics.A(x)))


class ThroughA(NonCartesianMRI):
    """The same operator without its closed form."""

    has_direct_normal = False

    def _normal(self, x: torch.Tensor) -> torch.Tensor:
        return self._adjoint(self._forward(x))


def cg_sense(quick: bool, is_3d: bool = False) -> Row:
    """Ten steps of CG-SENSE on a brain, the spectrum and all plans included, beside steps through A and Aᴴ."""
    fast = radial(quick, is_3d)
    truth = torch.from_numpy(brain(fast.grid.shape, 1))[None, None]
    samples, maps = fast.A(truth)[0].numpy(), fast.csm.numpy()
    grid = VolumeGrid(shape=fast.grid.shape)
    scan = Scan(measurements=samples, geometry=fast.sampling, grid=grid, csm=maps)

    def solve(kind: type[NonCartesianMRI]) -> torch.Tensor:
        method = get("cg-sense")
        problem = Problem(scan=scan, physics=kind(fast.sampling, maps, grid), y=measured(scan, "cpu"))
        work = method.solve(problem, method.params(n_iterations=10, tolerance=0))
        while True:
            try:
                next(work)
            except StopIteration as end:
                return end.value

    name = f"{title(fast)}: CG-SENSE, 10 steps"
    return against(name, "steps through A and Aᴴ", lambda: solve(NonCartesianMRI), lambda: solve(ThroughA))


ROWS: dict[str, Callable[[bool], Row]] = {
    "nufft-forward": nufft_forward,
    "nufft-adjoint": nufft_adjoint,
    "nufft-forward-3d": lambda quick: nufft_forward(quick, True),
    "nufft-adjoint-3d": lambda quick: nufft_adjoint(quick, True),
    "toeplitz": toeplitz,
    "toeplitz-3d": lambda quick: toeplitz(quick, True),
    "cg-sense": cg_sense,
    "cg-sense-3d": lambda quick: cg_sense(quick, True),
}


def page(rows: list[Row]) -> str:
    """The Markdown table."""
    lines = [
        "# Speed beside others",
        "",
        f"`python benchmarks/speed.py`, {machine()}; processor seconds, the least of {REPEATS} runs.",
        "A ratio below one: ours is faster. Difference: relative, between both results.",
        "",
        "| what | beside | ours / s | theirs / s | ratio | aim | difference |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        aim = "" if row.target is None else f"≤ {row.target:g}"
        lines.append(
            f"| {row.name} | {row.rival} | {row.ours_s:.3g} | {row.rival_s:.3g} | {row.ratio:.2f} | {aim} | {row.difference:.1e} |"
        )
    return "\n".join(lines) + "\n"


def write(rows: list[Row], folder: Path) -> None:
    """speed.json and speed.md."""
    figures = [asdict(row) | {"ratio": row.ratio} for row in rows]
    facts = {"machine": machine(), "software": software(), "rows": figures}
    write_text(folder / "speed.json", json.dumps(facts, indent=1) + "\n")
    write_text(folder / "speed.md", page(rows))


def main(words: list[str] | None = None) -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it runs, not what it is worth")
    parser.add_argument("--only", default="", help="rows whose names contain this word")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    given = parser.parse_args(words)
    rows: list[Row] = []
    for name, make in ROWS.items():
        if given.only in name:
            rows.append(make(given.quick))
            print(page(rows[-1:]).splitlines()[-1], flush=True)
            write(rows, given.out)


if __name__ == "__main__":
    main()
