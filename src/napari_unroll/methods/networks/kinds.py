"""Every kind of prior. Adding one means one file and one name here."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from napari_unroll.methods.networks.dncnn import CNNConfig, DnCNNConfig
from napari_unroll.methods.networks.drunet import DRUNetConfig
from napari_unroll.methods.networks.shallow import ShallowConfig
from napari_unroll.methods.networks.unet import UNetConfig

AnyPriorConfig = Annotated[
    DRUNetConfig | UNetConfig | DnCNNConfig | CNNConfig | ShallowConfig, Field(discriminator="kind")
]
