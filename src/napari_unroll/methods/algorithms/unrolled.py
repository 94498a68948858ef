"""The row of *Efficient Unrolled Networks*: unrolled proximal gradient with a DRUNet (arXiv 2601.02141, eq. 4)."""

from __future__ import annotations

from typing import Any

from napari_unroll.methods.algorithms.network import NetworkConfig
from napari_unroll.methods.algorithms.reconstruct import UnrolledParams, learned
from napari_unroll.methods.networks.drunet import DRUNetConfig
from napari_unroll.methods.steps.gradient import GradientStepConfig
from napari_unroll.scan.scan import Modality

NEIGHBOURS = 2
"""Slices on either side that a 2-D prior sees too."""


def _network(modality: Modality) -> NetworkConfig:
    """Volumes for CT. Images, and k-space that is fully sampled along z, fall apart into slices.

    These train several times faster.
    """
    if modality == "ct":
        step, prior = GradientStepConfig(preconditioner=0.2, substeps=2), DRUNetConfig()
        return NetworkConfig(prior=prior, data_step=step, n_iterations=5, start_iterations=60)
    step = GradientStepConfig(preconditioner=0.2, degree=3)
    is_mri = modality == "mri"
    prior = DRUNetConfig(dim=2, neighbours=NEIGHBOURS if is_mri else 0, complex_valued=is_mri)
    return NetworkConfig(prior=prior, data_step=step, n_iterations=5, final_step=True, start_iterations=60)


def _training(modality: Modality) -> dict[str, Any]:
    """CT operators are approximated only, so contexts are trajectories; those of Cartesian MRI and images are exact."""
    if modality == "ct":
        return {"learning_rate": 5e-4, "auxiliary": 0.2, "context": "trajectory"}
    return {}


UNROLLED_PGD = learned(
    name="unrolled-pgd",
    title="Unrolled proximal gradient",
    summary="A learned 3-D prior between data steps; streams patch by patch; may refine every patch in its context.",
    source="Efficient Unrolled Networks for Large-Scale 3D Inverse Problems, arXiv 2601.02141, eq. 4 and algorithm 1",
    params=UnrolledParams,
    network=_network,
    training=_training,
)
