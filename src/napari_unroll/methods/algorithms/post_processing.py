"""The rows of post-processing: one pass of a network over the quick reconstruction, patch by patch, blind to the data."""

from __future__ import annotations

from typing import Any

from napari_unroll.methods.algorithms.network import NetworkConfig
from napari_unroll.methods.algorithms.reconstruct import NetworkParams, learned
from napari_unroll.methods.networks.drunet import DRUNetConfig
from napari_unroll.methods.networks.unet import UNetConfig
from napari_unroll.scan.scan import Modality

SEES: dict[Modality, dict[str, Any]] = {
    "ct": {"dim": 3},
    "mri": {"dim": 2, "neighbours": 2, "complex_valued": True},
    "image": {"dim": 2},
}
"""What a prior sees unless it is told: volumes, or for MRI slices with two neighbours on either side, or images alone."""


def drunet(modality: Modality) -> NetworkConfig:
    """The DRUNet that post-processing trains unless it is told otherwise."""
    return NetworkConfig(iteration="one-pass", prior=DRUNetConfig(**SEES[modality]))


def _unet(modality: Modality) -> NetworkConfig:
    return NetworkConfig(iteration="one-pass", prior=UNetConfig(**SEES[modality]))


DRUNET = learned(
    name="drunet",
    title="Post-processing network",
    summary="One pass of a DRUNet over FDK or the zero-filled image; fast, but blind to the measurements.",
    source="Jin et al., Deep Convolutional Neural Network for Inverse Problems in Imaging (2017), doi:10.1109/TIP.2017.2713099",
    params=NetworkParams,
    network=drunet,
    iterative=False,
)

UNET = learned(
    name="unet",
    title="Post-processing U-Net",
    summary="One pass of a plain U-Net over FDK or the zero-filled image (FBPConvNet).",
    source="Jin et al., Deep Convolutional Neural Network for Inverse Problems in Imaging (2017), doi:10.1109/TIP.2017.2713099",
    params=NetworkParams,
    network=_unet,
    iterative=False,
)
