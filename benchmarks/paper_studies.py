"""LUSER and MOL: what their papers say, and which methods, networks and scans stand for it here.

A network of the paper has a quarter of its channels here, all of them alike, so that one CPU can train it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np

from napari_unroll.physics.samples import sample_deblur, sample_multicoil, sample_super_resolution
from napari_unroll.physics.simulate import Exposure, simulate_ct, simulate_mri
from napari_unroll.scan.geometry import ParallelBeam, VolumeGrid
from napari_unroll.scan.phantoms import brain, random_volume
from napari_unroll.scan.retrospective import line_mask
from napari_unroll.scan.scan import Scan

Make = Callable[[int], Scan]
"""A held-out scan by its seed."""


@dataclass(frozen=True)
class Claim:
    """``better`` is ahead of ``worse``, says the ``source``. ``what``: PSNR, PSNR lost at worst, seconds."""

    better: str
    worse: str
    source: str
    what: str = "psnr"


@dataclass(frozen=True)
class Comparison:
    """One table: its scans, the plan that all trainings share, the methods with their networks, and the claims.

    ``classical`` methods are not trained; ``perturbed`` makes the scans whose measurements are perturbed.
    ``published``: method → (PSNR in dB, SSIM) as printed in ``source``.
    """

    name: str
    title: str
    make: Make
    shared: str
    networks: Mapping[str, Mapping[str, Any]]
    classical: tuple[str, ...]
    claims: tuple[Claim, ...] = ()
    published: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    source: str = ""
    perturbed: Make | None = None


@dataclass(frozen=True)
class Study:
    """A paper: its words for the page's top, its tables, the trainings (modality → plan), methods of the memory table.

    ``scans`` of a plan makes its training scans by their seeds; without it they are those of the plan's scanner. ``share``
    is the part of ``--minutes`` that each of its trainings gets, all where there is none. ``options`` are how fast all
    networks learn. ``batches``: method → largest batches in 8, 10 and 24 GB and number of parameters, as
    printed.
    """

    title: str
    about: tuple[str, ...]
    plans: Mapping[str, Mapping[str, Any]]
    comparisons: tuple[Comparison, ...]
    memory: tuple[str, ...]
    options: Mapping[str, float]
    batches: Mapping[str, tuple[str, str, str, str]] = field(default_factory=dict)


def by_figures(published: Mapping[str, tuple[float, float]], source: str) -> tuple[Claim, ...]:
    """Every pair of a printed column, the better one first."""
    ranked = sorted(published, key=lambda method: -published[method][0])
    return tuple(Claim(a, b, source) for a, b in combinations(ranked, 2))


def all_over(better: tuple[str, ...], worse: tuple[str, ...], source: str, what: str = "psnr") -> tuple[Claim, ...]:
    """Each of ``better`` is ahead of each of ``worse``."""
    return tuple(Claim(a, b, source, what) for a in better for b in worse)


def parallel_mri(n_planes: int, seed: int) -> Scan:
    """Eight coils, four-fold undersampled, slices of 48²."""
    return sample_multicoil((n_planes, 48, 48), 8, 4, seed)


def parallel_beam(seed: int) -> Scan:
    """A slice of 48² voxels in parallel beams: as many views for its width as 200 for the 362 voxels of LoDoPaB."""
    grid = VolumeGrid(shape=(1, 48, 48))
    angles = np.pi * np.arange(N_VIEWS) / N_VIEWS
    geometry = ParallelBeam.circular(angles_rad=angles, detector_shape=(1, 70))
    volume = random_volume((2, 96, 96), seed)
    return simulate_ct(volume, geometry, grid, Exposure(photons=1e5), seed, f"slice, {N_VIEWS} parallel views")


def one_coil(acceleration: float, seed: int) -> Scan:
    """Two real slices of 48², one coil that is the same everywhere, of whole lines of k-space three quarters in the middle."""
    mask = line_mask((48, 48), acceleration, round(32 / acceleration), seed)
    coil = np.ones((1, 2, 48, 48), np.complex64)
    image = np.abs(brain((2, 48, 48), seed))
    return simulate_mri(image, coil, mask, 0.01, seed, f"brain, one coil, R = {acceleration:g}")


def four_or_eight(seed: int) -> Scan:
    """Accelerated four-fold and eight-fold by turns."""
    return one_coil(4 if seed % 2 else 8, seed)


N_VIEWS = 27
super_resolution = partial(sample_super_resolution, (1, 36, 36), 3, 0.01, False)
IMAGES = {
    "modality": "image", "levels": (1, 3), "size": 36, "n_objects": 96, "n_held_out": 1, "patch": (1, 36, 36),
}  # fmt: skip
FLAT = {"dim": 2, "neighbours": 0}
DNCNN = {"prior": {**FLAT, "layers": 17, "width": 16}}
SHALLOW = {"prior": {**FLAT, "width": 8, "groups": 2}}
CNN = {"prior": {**FLAT, "layers": 5, "width": 16}}
RESOLVENT = {"data_step": {"max_steps": 8, "tolerance": 1e-5}}
"""As many conjugate gradients in every data step: fewer than by default, and always the same number."""
SOLVED = {"equilibrium": {"tolerance": 1e-3, "max_evaluations": 20}}
"""Looser than by default, for more training steps in the same time."""
UNROLLED_CNN = {**CNN, **RESOLVENT}
MOL_CNN = {**UNROLLED_CNN, **SOLVED}
DE_CNN = {**CNN, **SOLVED}
UNET = {"prior": {**FLAT, "channels": (8, 16, 32, 64)}}

CELEBA = {
    "deq4ip": (31.57, 0.895), "luser-dw": (31.40, 0.891), "luser-sw": (30.65, 0.878), "lu-dncnn": (30.39, 0.871),
}  # fmt: skip
LODOPAB = {
    "luser-dw": (31.83, 0.860), "deq4ip": (31.79, 0.868), "lu-dncnn": (31.59, 0.859), "luser-sw": (28.82, 0.801),
}  # fmt: skip
KNEES_4 = {
    "luser-dw": (29.86, 0.740), "luser-sw": (29.18, 0.685), "lu-dncnn": (29.02, 0.671), "deq4ip": (29.01, 0.678),
}  # fmt: skip
KNEES_8 = {
    "luser-dw": (28.06, 0.630), "lu-dncnn": (27.65, 0.572), "deq4ip": (27.51, 0.570), "luser-sw": (27.42, 0.562),
}  # fmt: skip
"""Table 2 of LUSER, the better of final and auxiliary loss."""
TABLE_2 = "LUSER, table 2"
LUSER_NETWORKS = {"lu-dncnn": DNCNN, "luser-sw": SHALLOW, "luser-dw": SHALLOW, "deq4ip": DNCNN}
SECTION_3, SECTION_2 = "MOL, supplement, sec. III", "MOL, supplement, sec. II"

LUSER = Study(
    title="LUSER: the paper's tables and ours",
    about=(
        "The paper: *Loop Unrolled Shallow Equilibrium Regularizer*, arXiv 2210.04987; deblurring of faces (CelebA), CT and",
        "single-coil MRI, trained on a GPU of 24 GB. Here one training serves deblurring and three-fold super-resolution, which",
        "the paper has not, one CT, and one MRI of both accelerations. Networks of CT begin with the filtered backprojection,",
        "the paper's with Aᴴy; images of MRI are magnitudes, of which ours see real and imaginary part, the paper's one channel.",
    ),
    plans={
        "image": IMAGES,
        "ct": {"modality": "ct", "scans": parallel_beam, "n_held_out": 1, "patch": (1, 48, 48), "share": 0.4},
        "mri": {"modality": "mri", "scans": four_or_eight, "n_held_out": 1, "patch": (1, 48, 48), "share": 0.4},
    },
    comparisons=(
        Comparison(
            "deblurring", "Deblurring: 9 × 9 Gaussian of variance 5, σ = 0.01",
            partial(sample_deblur, (1, 36, 36), 9, 5.0, 0.01, False), "image", LUSER_NETWORKS,
            ("interpolation", "tikhonov", "tv-fista"),
            (*by_figures(CELEBA, f"{TABLE_2}, CelebA"),
             *all_over(("lu-dncnn",), ("luser-sw", "luser-dw", "deq4ip"), "LUSER, sec. 4.2", "seconds")),
            CELEBA, f"{TABLE_2}, CelebA",
        ),
        Comparison(
            "super-resolution", "Three-fold super-resolution, σ = 0.01",
            super_resolution, "image",
            LUSER_NETWORKS, ("interpolation", "tikhonov", "tv-fista"),
        ),
        Comparison(
            "ct", "CT: 27 parallel views of 48² voxels, 10⁵ photons", parallel_beam, "ct", LUSER_NETWORKS,
            ("fdk", "cgls", "tv-fista"), by_figures(LODOPAB, f"{TABLE_2}, CT"), LODOPAB, f"{TABLE_2}, CT",
        ),
        Comparison(
            "mri-4", "Single-coil MRI, four-fold: whole lines left out, σ = 0.01", partial(one_coil, 4), "mri",
            LUSER_NETWORKS, ("zero-filled", "tikhonov", "tv-fista"), by_figures(KNEES_4, f"{TABLE_2}, 4× MRI"), KNEES_4,
            f"{TABLE_2}, 4× MRI",
        ),
        Comparison(
            "mri-8", "Single-coil MRI, eight-fold: whole lines left out, σ = 0.01", partial(one_coil, 8), "mri",
            LUSER_NETWORKS, ("zero-filled", "tikhonov", "tv-fista"), by_figures(KNEES_8, f"{TABLE_2}, 8× MRI"), KNEES_8,
            f"{TABLE_2}, 8× MRI",
        ),
    ),
    memory=("lu-dncnn", "deq4ip", "luser-sw", "luser-dw"),
    options={"learning_rate": 1e-3, "warmup": 20, "ema": 0.98},
    batches={
        "lu-dncnn": ("1", "1", "4", "558,580"), "deq4ip": ("16", "16", "68", "558,580"),
        "luser-sw": ("10", "14", "34", "96,503"), "luser-dw": ("10", "14", "34", "770,073"),
    },
)  # fmt: skip

UNROLLED, BOUNDED = ("modl", "admm-net"), ("mol-sn", "de-grad")
MOL = Study(
    title="Monotone operator learning: the paper's tables and ours",
    about=(
        "The paper: *Memory-efficient model-based deep learning with convergence and robustness guarantees*,",
        "doi:10.1109/TCI.2023.3252268; four-fold parallel MRI of measured brains (Calgary), trained on GPUs. The figures of its",
        "tables are not in the text that was at hand (the supplement's table I is a picture there), so its order is compared,",
        "as the supplement's text says it: MOL-LR at par with MoDL and ADMM-Net with a slight drop, MOL-SN, DE-GRAD, U-Net and",
        "SENSE below them. All networks but the U-Net have the same five layers; eight conjugate gradients solve a data step,",
        "fixed points are looked for to 10⁻³ within 20 evaluations.",
    ),
    plans={
        "mri": {"modality": "mri", "scans": partial(parallel_mri, 2), "n_held_out": 1, "patch": (1, 48, 48)},
        "image": IMAGES,
    },
    comparisons=(
        Comparison(
            "parallel-mri", "Parallel MRI: 8 coils, R = 4, variable density in two dimensions, σ = 0.01",
            partial(parallel_mri, 4), "mri",
            {"modl": UNROLLED_CNN, "admm-net": UNROLLED_CNN, "mol-lr": MOL_CNN, "mol-sn": MOL_CNN, "de-grad": DE_CNN,
             "deq4ip": DE_CNN, "unet": UNET},
            ("zero-filled", "cg-sense", "tikhonov", "tv-fista"),
            (
                *all_over(UNROLLED, ("mol-lr",), f"{SECTION_2} (slight drop)"),
                *all_over((*UNROLLED, "mol-lr"), (*BOUNDED, "unet", "cg-sense"), SECTION_2),
                *all_over(("mol-lr", "mol-sn"), (*UNROLLED, "unet"), "MOL, abstract (robustness)", "lost"),
            ),
            perturbed=partial(parallel_mri, 1),
        ),
        Comparison(
            "super-resolution", "Three-fold super-resolution, σ = 0.01", super_resolution, "image",
            {"modl": UNROLLED_CNN, "mol-lr": MOL_CNN}, ("interpolation", "tikhonov"),
            all_over(("modl", "mol-lr"), ("tikhonov",), SECTION_3),
        ),
    ),
    memory=("modl", "admm-net", "mol-lr", "mol-sn", "de-grad", "deq4ip", "unet"),
    options={"learning_rate": 5e-3, "warmup": 2, "ema": 0.9},
)  # fmt: skip

STUDIES = {"luser": LUSER, "mol": MOL}
