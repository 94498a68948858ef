"""The tables of the papers as they were published, and which method and network stand for each of their rows here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Published:
    """A row of a paper: (SSIM, PSNR in dB) per level, training memory in GB and seconds per training step."""

    quality: Mapping[float, tuple[float, float]]
    memory_gb: float | None = None
    seconds_per_step: float | None = None


@dataclass(frozen=True)
class Row:
    """A row: our method, the network of the table that it uses (empty: none, or shipped weights), and the paper's figures."""

    title: str
    method: str
    network: str = ""
    weights: str = "auto"
    published: Published = Published({})


@dataclass(frozen=True)
class Table:
    """One table: the kind of scans, what they are called in the paper, rows, and the networks to train for them.

    ``networks`` are what differs from a TrainingPlan of the modality.
    """

    title: str
    task: str
    modality: str
    levels: tuple[float, ...]
    level_name: str
    rows: tuple[Row, ...]
    networks: Mapping[str, dict[str, Any]] = field(default_factory=dict)


def cone(ssim: tuple[float, float, float], psnr: tuple[float, float, float], *costs: float) -> Published:
    """Figures at 30, 50 and 100 views."""
    return Published(dict(zip((30, 50, 100), zip(ssim, psnr, strict=True), strict=True)), *costs)


def coil(ssim: tuple[float, float], psnr: tuple[float, float], *costs: float) -> Published:
    """Figures at R = 5 and 10."""
    return Published(dict(zip((5, 10), zip(ssim, psnr, strict=True), strict=True)), *costs)


FLAT, DEEP = {"prior": {"dim": 2, "neighbours": 0}}, {"prior": {"dim": 3, "neighbours": 0}}

CONE_BEAM = Table(
    title="Table 1: Walnut-CBCT",
    task="cone-beam",
    modality="ct",
    levels=(30, 50, 100),
    level_name="views",
    networks={
        "drunet-2d": {"method": "drunet", "network": FLAT},
        "drunet-3d": {"method": "drunet", "network": DEEP},
        "unrolled-2d": {"method": "unrolled-pgd", "network": FLAT},
        "unrolled-3d": {"method": "unrolled-pgd", "network": DEEP},
    },
    rows=(
        Row("FDK", "fdk", published=cone((0.197, 0.263, 0.375), (18.53, 21.16, 24.74))),
        Row("TV", "tv-fista", published=cone((0.799, 0.850, 0.893), (27.88, 29.72, 31.63))),
        Row("INR [3D]", "inr", published=cone((0.805, 0.862, 0.913), (29.97, 32.18, 33.74))),
        Row("PnP-PGD [2D]", "pnp-pgd", "drunet-2d",
            published=cone((0.805, 0.875, 0.889), (28.74, 32.15, 33.97), 11.94, 0.07)),
        Row("PnP-PGD [3D]", "pnp-pgd", "drunet-3d",
            published=cone((0.803, 0.868, 0.884), (28.63, 31.69, 33.72), 67.50, 1.39)),
        Row("DPIR [RAM] [2D]", "dpir-ram", published=cone((0.774, 0.815, 0.826), (28.33, 30.19, 31.17))),
        Row("DPIR [DRUNet], shipped denoiser", "dpir"),
        Row("DRUNet [2D]", "drunet", "drunet-2d",
            published=cone((0.820, 0.866, 0.865), (28.30, 31.14, 33.66), 11.94, 0.07)),
        Row("DRUNet [3D]", "drunet", "drunet-3d",
            published=cone((0.857, 0.905, 0.931), (29.47, 32.49, 35.22), 67.50, 1.39)),
        Row("Unrolled [2D], partitioned + approximated", "unrolled-pgd", "unrolled-2d",
            published=cone((0.855, 0.911, 0.942), (29.37, 32.52, 35.79), 15.17, 2.56)),
        Row("Unrolled [3D], partitioned + approximated", "unrolled-pgd", "unrolled-3d",
            published=cone((0.877, 0.926, 0.947), (31.17, 34.21, 37.07), 44.70, 1.20)),
        Row("DRUNet [3D], shipped weights", "drunet"),
        Row("Unrolled [3D], shipped weights", "unrolled-pgd"),
    ),
)  # fmt: skip

MULTI_COIL = Table(
    title="Table 2: Calgary-Campinas",
    task="multi-coil",
    modality="mri",
    levels=(5, 10),
    level_name="acceleration",
    networks={
        "drunet-2d": {"method": "drunet", "network": FLAT},
        "drunet-3d": {"method": "drunet", "network": DEEP},
        "unrolled-2d": {"method": "unrolled-pgd", "network": FLAT},
        "unrolled-3d": {"method": "unrolled-pgd", "network": DEEP},
    },
    rows=(
        Row("Zero-filled", "zero-filled", published=coil((0.473, 0.334), (24.40, 21.92))),
        Row("TV", "tv-fista", published=coil((0.790, 0.726), (32.42, 30.23))),
        Row("INR [3D]", "inr", published=coil((0.748, 0.666), (30.23, 28.06))),
        Row("PnP-PGD [2D]", "pnp-pgd", "drunet-2d", published=coil((0.639, 0.661), (27.08, 28.70), 10.04, 0.080)),
        Row("PnP-PGD [3D]", "pnp-pgd", "drunet-3d", published=coil((0.649, 0.648), (27.27, 28.47), 18.54, 0.610)),
        Row("DPIR [RAM] [2D]", "dpir-ram", published=coil((0.612, 0.582), (28.24, 27.35))),
        Row("DPIR [DRUNet], shipped denoiser", "dpir"),
        Row("DRUNet [2D]", "drunet", "drunet-2d", published=coil((0.913, 0.873), (33.87, 31.31), 10.04, 0.080)),
        Row("DRUNet [3D]", "drunet", "drunet-3d", published=coil((0.930, 0.900), (35.02, 32.67), 17.85, 0.610)),
        Row("Unrolled [2D], partitioned", "unrolled-pgd", "unrolled-2d",
            published=coil((0.942, 0.906), (36.61, 33.26), 11.66, 0.590)),
        Row("Unrolled [3D], partitioned", "unrolled-pgd", "unrolled-3d",
            published=coil((0.948, 0.919), (37.36, 34.25), 37.02, 1.10)),
        Row("DRUNet [2.5D], shipped weights", "drunet"),
        Row("Unrolled [2.5D], shipped weights", "unrolled-pgd"),
    ),
)  # fmt: skip

ABLATION = (
    ("Unrolled [3D], global", "global", (36.23, 75.93, 2.16), None),
    ("with partitioning", "partitioned", (35.85, 37.02, 1.10), (34.11, 44.70, 1.65)),
    ("with partitioning + approximation", "partitioned + approximated", (35.09, 37.04, 1.09), (34.15, 44.70, 1.21)),
)
"""Table 3: title, our variant, the paper's (PSNR, GB, s per step) for multi-coil MRI and for walnuts, None: out of memory."""

PAPERS = {"efficient-unrolling": (CONE_BEAM, MULTI_COIL)}
