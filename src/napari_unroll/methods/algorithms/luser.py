"""The rows of LUSER: unrolled proximal gradient with a shallow equilibrium prior, and the deep one that it is compared with.

Guan, Jin, Romberg, Davenport, "Loop Unrolled Shallow Equilibrium Regularizer" (2022), arXiv 2210.04987. One step size for all
iterations, as their numbers of parameters tell.
"""

from __future__ import annotations

from typing import Any

from napari_unroll.methods.algorithms.network import NetworkConfig
from napari_unroll.methods.algorithms.post_processing import SEES
from napari_unroll.methods.algorithms.reconstruct import UnrolledParams, learned
from napari_unroll.methods.networks.dncnn import DnCNNConfig
from napari_unroll.methods.networks.shallow import ShallowConfig
from napari_unroll.methods.steps.gradient import GradientStepConfig
from napari_unroll.scan.scan import Modality

K = 8
STEP = GradientStepConfig(preconditioner=None, is_shared=True)
"""The papers' plain gradient step; data steps of other lengths would hide what the prior does."""
DNCNN: dict[Modality, dict[str, Any]] = {"ct": {"layers": 8, "width": 32}, "mri": {}, "image": {}}
"""The papers' 17 layers of 64 channels for slices; in 3-D a third of the width and half the depth fit a workstation."""
START = 60
"""FISTA steps of total variation before the first iteration."""
SOURCE = "Guan et al., Loop Unrolled Shallow Equilibrium Regularizer (LUSER, 2022), arXiv 2210.04987"


def dncnn(modality: Modality) -> DnCNNConfig:
    """The DnCNN that a method of this modality trains unless it is told otherwise."""
    return DnCNNConfig(**SEES[modality], **DNCNN[modality])


def _lu_dncnn(modality: Modality) -> NetworkConfig:
    return NetworkConfig(prior=dncnn(modality), data_step=STEP, n_iterations=K, start_iterations=START)


def _luser(modality: Modality, n_priors: int) -> NetworkConfig:
    prior = ShallowConfig(**SEES[modality])
    return NetworkConfig(prior=prior, data_step=STEP, n_iterations=K, n_priors=n_priors, start_iterations=START)


def training(modality: Modality) -> dict[str, Any]:
    """CT operators are approximated only, so contexts are trajectories; those of Cartesian MRI are exact."""
    return {"batch_size": 1, "context": "trajectory"} if modality == "ct" else {}


LU_DNCNN = learned(
    name="lu-dncnn",
    title="Unrolled DnCNN (LU)",
    summary="Eight gradient steps with a DnCNN that they share between them.",
    source=f"{SOURCE}, sec. 2.1",
    params=UnrolledParams,
    network=_lu_dncnn,
    training=training,
)

LUSER_SW = learned(
    name="luser-sw",
    title="Shallow equilibrium regulariser, shared (LUSER-SW)",
    summary="Eight gradient steps; between them few layers that are iterated to a fixed point, the same ones every time.",
    source=f"{SOURCE}, eq. 7",
    params=UnrolledParams,
    network=lambda modality: _luser(modality, 1),
    training=training,
)

LUSER_DW = learned(
    name="luser-dw",
    title="Shallow equilibrium regularisers (LUSER-DW)",
    summary="As LUSER-SW, with layers of their own for every gradient step.",
    source=f"{SOURCE}, eq. 7",
    params=UnrolledParams,
    network=lambda modality: _luser(modality, K),
    training=training,
)
