"""The rows of monotone operator learning: an equilibrium that is unique, is found, and moves little where the data do.

Pramanik, Zimmerman, Jacob, "Memory-efficient model-based deep learning with convergence and robustness guarantees" (2023),
doi:10.1109/TCI.2023.3252268.
"""

from __future__ import annotations

from typing import Literal

from napari_unroll.methods.algorithms.deep_equilibrium import training
from napari_unroll.methods.algorithms.luser import START
from napari_unroll.methods.algorithms.network import NetworkConfig
from napari_unroll.methods.algorithms.post_processing import SEES
from napari_unroll.methods.algorithms.reconstruct import EquilibriumParams, learned
from napari_unroll.methods.equilibrium.config import EquilibriumConfig
from napari_unroll.methods.equilibrium.lipschitz import LipschitzConfig
from napari_unroll.methods.networks.dncnn import CNNConfig
from napari_unroll.methods.steps.resolvent import ResolventStepConfig
from napari_unroll.scan.scan import Modality

SOURCE = "Pramanik, Zimmerman, Jacob, Monotone Operator Learning (2023), doi:10.1109/TCI.2023.3252268, eq. 14"


def _network(modality: Modality, kind: Literal["layers", "penalty"]) -> NetworkConfig:
    return NetworkConfig(
        iteration="averaged-resolvent",
        prior=CNNConfig(**SEES[modality]),
        data_step=ResolventStepConfig(),
        equilibrium=EquilibriumConfig(),
        lipschitz=LipschitzConfig(kind=kind),
        start_iterations=START,
    )


MOL_LR = learned(
    name="mol-lr",
    title="Monotone operator learning, by a penalty (MOL-LR)",
    summary="The fixed point of a small network and exact data steps; a penalty keeps the network from taking points apart.",
    source=SOURCE,
    params=EquilibriumParams,
    network=lambda modality: _network(modality, "penalty"),
    training=training,
)

MOL_SN = learned(
    name="mol-sn",
    title="Monotone operator learning, by normalised layers (MOL-SN)",
    summary="As MOL-LR, with layers whose norms are at most one: convergence and robustness are certain.",
    source=SOURCE,
    params=EquilibriumParams,
    network=lambda modality: _network(modality, "layers"),
    training=training,
)
