"""Noise that is measured beside noise that was put in, on drawn scans: the figures of noise_told.md and photon_counts.md.

    python benchmarks/noise.py {xray,cartesian,trajectory} [--scans 24] [--repeats 4] [--correlation 0]

Every scan has a scanner and an object of its own, and is taken ``--repeats`` times, which differ by chance only. Told are the
ratio of found to true (geometric mean, least, most), which is what is systematic; the spread of the repeats over the standard
error that was told, which should be one; and in what part of the scans the truth is within one and two standard errors.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from napari_unroll.physics.nufft import NonCartesianMRI
from napari_unroll.physics.simulate import coil_factor
from napari_unroll.scan.estimate import Estimate
from napari_unroll.scan.geometry import ConeBeam, VolumeGrid
from napari_unroll.scan.kspace_noise import sample_deviation
from napari_unroll.scan.phantoms import brain, coil_maps
from napari_unroll.scan.photon_counts import photons
from napari_unroll.scan.scan import Scan
from napari_unroll.scan.trajectories import NonCartesianSampling, radial_2d, radial_3d, stack_of_stars
from napari_unroll.training.objects import generated
from napari_unroll.training.plan import Noise
from napari_unroll.training.variety_ct import drawn_xray_scanner
from napari_unroll.training.variety_mri import COILS, DrawnCoilScanner, recoloured

FIRST = 9_500
"""Seed of the first scan; trainings keep it for validation."""
SIZES = (36, 48, 64, 96)
PHOTONS, SIGMA = (3.0, 6.0), (-3.0, -1.5)
"""Limits of the decimal logarithms of what is put in, photons per pixel and parts of the brightest voxel."""
NO_NOISE = 1e-9


@dataclass(frozen=True)
class Taken:
    """A scan, what its noise truly is, what was found, and what is told of it."""

    kind: str
    true: float
    found: list[Estimate]


def xray(seed: int, repeats: int, correlation: float) -> Taken:
    """Cones, fans and parallel beams of objects of all kinds."""
    rng = np.random.default_rng(seed)
    n = float(10 ** rng.uniform(*PHOTONS))
    scanner = drawn_xray_scanner(seed, int(rng.choice(SIZES[:3])), (15, 200), Noise(photons=(n, n)))
    volume = generated("ct", True)(scanner.object_grid, seed)
    found = [photons(scanner.simulate(volume, seed + 1000 * k)) for k in range(repeats)]
    geometry = scanner.geometry
    beam = ("cone" if isinstance(geometry, ConeBeam) else "parallel") if geometry.detector_shape[0] > 1 else "fan"
    return Taken(f"{beam}, {geometry.n_views} views", n, [f for f in found if f is not None])


def cartesian(seed: int, repeats: int, correlation: float) -> Taken:
    """Poisson discs, lines and stars, slices and slabs of brains."""
    rng = np.random.default_rng(seed)
    level, size = float(10 ** rng.uniform(*SIGMA)), int(rng.choice(SIZES))
    quiet, loud = (
        DrawnCoilScanner(seed, size, (2, 12), Noise(sigma=(s, s), coil_correlation=correlation or NO_NOISE))
        for s in (NO_NOISE, level)
    )
    volume = brain(quiet.object_grid.shape, seed)
    clean = quiet.simulate(volume, seed)
    sigma = float(np.std((loud.simulate(volume, seed).measurements - clean.measurements)[:, clean.geometry.mask]))
    found = [
        sample_deviation(with_noise(clean, sigma, correlation, seed + 1000 * k, clean.geometry.mask))
        for k in range(repeats)
    ]
    return Taken(f"{clean.geometry.n_coils} coils, {size} voxels", sigma, [f for f in found if f is not None])


def trajectory(seed: int, repeats: int, correlation: float) -> Taken:
    """Spokes, stacks of stars, spokes in three dimensions, spirals; readouts sampled once or twice as finely as need be."""
    rng = np.random.default_rng(seed)
    clean, kind = scan_along(rng, seed)
    level = float(10 ** rng.uniform(*SIGMA))
    sigma = level * float(np.abs(clean.truth).max())
    root = np.sqrt(clean.geometry.weights)
    found = [sample_deviation(with_noise(clean, sigma, correlation, seed + 1000 * k, root)) for k in range(repeats)]
    return Taken(f"{clean.geometry.n_coils} coils, {kind}", sigma, [f for f in found if f is not None])


def with_noise(clean: Scan, sigma: float, correlation: float, seed: int, by: np.ndarray) -> Scan:
    """``clean`` with complex noise of ``sigma`` in every coil, times ``by``."""
    rng, shape = np.random.default_rng([seed, 9]), clean.measurements.shape
    white = (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) * sigma / np.sqrt(2)
    steps = np.abs(np.subtract.outer(np.arange(shape[0]), np.arange(shape[0])))
    noise = np.tensordot(coil_factor(correlation**steps, shape[0]), white, axes=1)
    return replace(clean, measurements=(clean.measurements + noise * by).astype(np.complex64))


def scan_along(rng: np.random.Generator, seed: int) -> tuple[Scan, str]:
    """A scan without noise along a drawn trajectory, and what that is."""
    n, n_coils, finer = int(rng.choice(SIZES)), int(rng.choice(COILS)), int(rng.choice((1, 2)))
    kind = str(rng.choice(("spokes", "stars", "spokes in 3-D", "spirals")))
    shots = max(6, round(n * float(np.exp(rng.uniform(np.log(0.15), np.log(1.6))))))
    planes = {"stars": 8, "spokes in 3-D": 32}.get(kind, 1)
    if kind == "spokes in 3-D":
        n = 32
    make: dict[str, Callable[[], np.ndarray]] = {
        "spokes": lambda: radial_2d(shots, finer * n),
        "stars": lambda: stack_of_stars(shots, finer * n, planes),
        "spokes in 3-D": lambda: radial_3d(8 * shots, finer * n),
        "spirals": lambda: spirals(max(4, shots // 4), finer, n),
    }
    shape, k = (planes, n, n), make[kind]()
    weights = np.linalg.norm(k, axis=2) + 0.25 / n if rng.random() < 0.5 else None
    sampling = NonCartesianSampling(trajectory=k, shape=shape, n_coils=n_coils, weights=weights)
    planes_there = brain((max(32, planes), n, n), seed)
    image = recoloured(planes_there[16 - planes // 2 : 16 - planes // 2 + planes], rng, seed)
    csm = coil_maps(shape, n_coils, seed)
    clean = NonCartesianMRI(sampling, csm).A(torch.from_numpy(image)[None, None])[0].numpy()
    scan = Scan(measurements=clean, geometry=sampling, grid=VolumeGrid(shape=shape), csm=csm, truth=image)
    return scan, f"{kind}, {k.shape[0]} × {k.shape[1]}, {n} voxels{', weighted' if weights is not None else ''}"


def spirals(n_arms: int, finer: int, n: int) -> np.ndarray:
    """Archimedean arms from k = 0 to the border, at most 1 / (``finer`` · n) cycles per voxel from sample to sample."""
    turns = n / 2 / n_arms
    length = np.pi * 0.5 * turns  # of an arm, in cycles per voxel
    t = np.sqrt(np.linspace(0, 1, round(length * finer * n) + 8))
    angle = 2 * np.pi * (turns * t[None] + np.arange(n_arms)[:, None] / n_arms)
    k = 0.5 * t[None] * np.stack([0 * angle, np.sin(angle), np.cos(angle)])
    return np.moveaxis(k, 0, -1)


KINDS = {"xray": xray, "cartesian": cartesian, "trajectory": trajectory}


def rows(kind: str, n: int, repeats: int, correlation: float) -> Iterator[Taken]:
    """One for every scan, printed as it comes."""
    for seed in range(FIRST, FIRST + n):
        taken = KINDS[kind](seed, repeats, correlation)
        if not taken.found:
            print(f"{seed} {taken.kind}: nothing found", flush=True)
            continue
        ratio, spread = ratio_of(taken), np.std([f.value for f in taken.found], ddof=1)
        told = np.mean([f.error for f in taken.found])
        print(
            f"{seed} {taken.kind}: true {taken.true:.3g}, found {ratio:.3f} of it, "
            f"told error {told / taken.true:.3%}, spread {spread / taken.true:.3%}{', a limit' * is_limit(taken)}",
            flush=True,
        )
        yield taken


def ratio_of(taken: Taken) -> float:
    """Found over true, the mean of the repeats."""
    return float(np.mean([f.value for f in taken.found])) / taken.true


def is_limit(taken: Taken) -> bool:
    """Whether any of the repeats says so."""
    return any(f.is_limit for f in taken.found)


def summary(taken: list[Taken]) -> str:
    """What the scans say together."""
    ratios = np.array([ratio_of(t) for t in taken])
    spreads = np.array([np.var([f.value for f in t.found], ddof=1) for t in taken])
    told = np.array([np.mean([f.error**2 for f in t.found]) for t in taken])
    off = np.concatenate([[abs(f.value - t.true) / f.error for f in t.found] for t in taken])
    own = np.concatenate(
        [[abs(f.value - np.mean([g.value for g in t.found])) / f.error for f in t.found] for t in taken]
    )
    own /= np.sqrt(1 - 1 / len(taken[0].found))
    near = np.abs(np.log(ratios)) < np.log(1.05)
    within = "; ".join(
        f"within {k} standard errors {(off < k).mean():.0%}, of the mean of the repeats {(own < k).mean():.0%}"
        for k in (1, 2)
    )
    return (
        f"{len(taken)} scans: found {np.exp(np.log(ratios).mean()):.3f} ({ratios.min():.3f} to {ratios.max():.3f}) of the true; "
        f"spread over told error {np.sqrt(np.mean(spreads / told)):.2f}; {within}; "
        f"off by less than 5 %: {near.mean():.0%}, by less than 30 %: {(np.abs(np.log(ratios)) < np.log(1.3)).mean():.0%}"
    )


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--scans", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--correlation", type=float, default=0.0)
    asked = parser.parse_args()
    found = list(rows(asked.kind, asked.scans, asked.repeats, asked.correlation))
    print(summary(found))
    numbers = [t for t in found if not is_limit(t)]
    print(f"No limits: {summary(numbers)}" if numbers else "All are limits.")


if __name__ == "__main__":
    main()
