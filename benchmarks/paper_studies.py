"""LUSER and MOL: what their papers say, and which methods, networks and scans stand for it here.

A network of the paper has a quarter of its channels here, all of them alike, so that one CPU can train it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from typing import Any

from napari_unroll.physics.samples import sample_deblur, sample_multicoil, sample_super_resolution
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

    ``scans`` of a plan makes its training scans by their seeds; without it they are those of the plan's scanner. ``options``
    are how fast all networks learn. ``batches``: method → largest batches in 8, 10 and 24 GB and number of parameters, as
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
"""Table 2 of LUSER, the better of final and auxiliary loss."""
TABLE_2 = "LUSER, table 2, CelebA"
LUSER_NETWORKS = {"lu-dncnn": DNCNN, "luser-sw": SHALLOW, "luser-dw": SHALLOW, "deq4ip": DNCNN}
SECTION_3, SECTION_2 = "MOL, supplement, sec. III", "MOL, supplement, sec. II"

LUSER = Study(
    title="LUSER: the paper's tables and ours",
    about=(
        "The paper: *Loop Unrolled Shallow Equilibrium Regularizer*, arXiv 2210.04987; deblurring of faces (CelebA), CT and",
        "single-coil MRI, trained on a GPU of 24 GB. Here one training serves deblurring and three-fold super-resolution, which",
        "the paper has not; CT and single-coil MRI were left out.",
    ),
    plans={"image": IMAGES},
    comparisons=(
        Comparison(
            "deblurring", "Deblurring: 9 × 9 Gaussian of variance 5, σ = 0.01",
            partial(sample_deblur, (1, 36, 36), 9, 5.0, 0.01, False), "image", LUSER_NETWORKS,
            ("interpolation", "tikhonov", "tv-fista"),
            (*by_figures(CELEBA, TABLE_2),
             *all_over(("lu-dncnn",), ("luser-sw", "luser-dw", "deq4ip"), "LUSER, sec. 4.2", "seconds")),
            CELEBA, TABLE_2,
        ),
        Comparison(
            "super-resolution", "Three-fold super-resolution, σ = 0.01",
            super_resolution, "image",
            LUSER_NETWORKS, ("interpolation", "tikhonov", "tv-fista"),
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
