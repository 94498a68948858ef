"""Iterative classical methods beside others' at what users get of them: the same objective, the same PSNR.

Total variation: FISTA of the same operator with scikit-image's proximal map, and the steps that reach our objective. Wavelets:
sigpy's ``L1WaveletRecon`` (where ``sigpy`` is installed), and the steps of both to the PSNR that both reach. A rival's other
choices are the best of a few that were tried before; only the steps themselves are timed.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from skimage.restoration import denoise_tv_chambolle
from speed_ct import cone, size
from speed_row import Row, seconds, solved

from napari_unroll.events import IterationDone, result_of
from napari_unroll.methods.classical.tv_objective import TVObjective, objective
from napari_unroll.methods.problem import Problem, measured
from napari_unroll.methods.registry import get
from napari_unroll.physics.build import build_physics
from napari_unroll.physics.samples import sample_multicoil
from napari_unroll.scan.quality import psnr

TV_STEPS = 20
MOST_STEPS = 100
"""Of a rival."""
INNER = (10, 30)
"""Dual steps of a rival's proximal map."""
WAVELETS = ("db2", "db4")
SPARSITY = (3e-4, 1e-3, 3e-3, 1e-2)
"""Weights of the rival's coefficients, for an image whose brightest voxel is 1."""


def plain_fista(goal: TVObjective, norm: float, n_inner: int) -> Iterator[torch.Tensor]:
    """Beck and Teboulle's steps for the same objective, the proximal map by scikit-image."""
    physics, step = goal.problem.physics, 1 / norm
    x = z = goal.start
    momentum = 1.0
    while True:
        b = z - step * (physics.normal(z) - goal.problem.adjoint)
        weight = goal.mean * goal.weight * step
        values = denoise_tv_chambolle(b[0, 0].numpy(), weight=weight, eps=0.0, max_num_iter=n_inner)
        last, x = x, torch.from_numpy(values.astype(np.float32))[None, None]
        before, momentum = momentum, (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        z = x + (before - 1) / momentum * (x - last)
        yield x


def total_variation(quick: bool) -> Row:
    """All views in every step on both sides, without positivity, which scikit-image's map has not."""
    scan, physics = cone(quick)
    choices = {"n_iterations": TV_STEPS, "tolerance": 0, "subsets": 1, "positivity": False}
    method, problem = get("tv-fista"), Problem(scan=scan, physics=physics, y=measured(scan, "cpu"))
    goal = result_of(objective(problem, method.params(**choices)))  # type: ignore[arg-type]
    volume, norm = solved(scan, physics, "tv-fista", **choices), result_of(problem.find_norm())
    wanted = goal.value(volume)

    def steps(n_inner: int) -> int:
        volumes = itertools.islice(plain_fista(goal, norm, n_inner), MOST_STEPS)
        return next((k for k, x in enumerate(volumes, 1) if goal.value(x[0, 0]) <= wanted), MOST_STEPS)

    counts = {n_inner: steps(n_inner) for n_inner in INNER}

    def theirs(n_inner: int) -> Callable[[], torch.Tensor]:
        return lambda: next(itertools.islice(plain_fista(goal, norm, n_inner), counts[n_inner] - 1, None))

    ours, *times = seconds(lambda: solved(scan, physics, "tv-fista", **choices), *map(theirs, INNER))
    rival_s, best = min(zip(times, INNER, strict=True))
    name = f"{size(quick)}: total variation, {TV_STEPS} steps"
    rival = f"FISTA with scikit-image's map ({best} inner), {counts[best]} steps to the same objective"
    difference = float((theirs(best)()[0, 0] - volume).norm() / volume.norm())
    return Row(name, rival, ours, rival_s, difference, close=0.1)


def wavelets(quick: bool) -> Row:
    """The steps of both to one PSNR: that of our defaults, or the rival's best; norms are found within their times."""
    from sigpy.mri.app import L1WaveletRecon

    scan = sample_multicoil((8, 16, 16) if quick else (32, 64, 64))
    physics = build_physics(scan, "cpu")
    truth, samples, maps = np.abs(scan.truth), np.asarray(scan.measurements), np.asarray(scan.csm)
    scale = float(truth.max())

    def app(weight: float, wavelet: str, most: int) -> Any:
        return L1WaveletRecon(samples / scale, maps, weight, wave_name=wavelet, max_iter=most, show_pbar=False)

    def quality(x: np.ndarray) -> float:
        return psnr(np.abs(x).astype(np.float32), truth)

    def reached(weight: float, wavelet: str, wanted: float) -> tuple[float, int]:
        """The best PSNR up to the first step that has what is wanted, and the step."""
        work, best = app(weight, wavelet, MOST_STEPS), (0.0, 0)
        for k in range(1, MOST_STEPS + 1):
            work.alg.update()
            best = max(best, (quality(scale * work.alg.x), k))
            if best[0] >= wanted:
                break
        return best

    def own_steps(level: float) -> int:
        """Of ours to that PSNR."""
        method, problem = get("wavelet-l1"), Problem(scan=scan, physics=physics, y=measured(scan, "cpu"))
        for event in method.solve(problem, method.params(show_every=1)):  # type: ignore[call-arg]
            if isinstance(event, IterationDone) and event.values is not None and quality(event.values) >= level:
                return event.iteration
        raise RuntimeError(f"{level:.2f} dB were not reached")

    wanted = quality(solved(scan, physics, "wavelet-l1").numpy())
    found = {(w, name): reached(w, name, wanted) for w in SPARSITY for name in WAVELETS}
    (weight, wavelet), (best, steps) = max(found.items(), key=lambda item: (min(item[1][0], wanted), -item[1][1]))
    level = min(wanted, best)
    few = own_steps(level)
    ours, theirs = seconds(
        lambda: solved(scan, physics, "wavelet-l1", n_iterations=few), lambda: app(weight, wavelet, steps).run()
    )
    z, y, x = scan.grid.shape
    name = f"multi-coil {z} × {y} × {x}, {len(maps)} coils: wavelet sparsity, {few} steps to {level:.1f} dB"
    return Row(name, f"sigpy's L1WaveletRecon, {wavelet}, {steps} steps to as much", ours, theirs, None)


ROWS: dict[str, Callable[[bool], Row]] = {
    "tv-objective": total_variation,
    **({"wavelets": wavelets} if find_spec("sigpy") else {}),
}
"""Name → row at its size, or ``quick``."""
