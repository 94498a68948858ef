"""The rows of deep equilibria: one unrolled iteration, repeated until it changes nothing.

Gilton, Ongie, Willett, "Deep Equilibrium Architectures for Inverse Problems in Imaging" (2021), doi:10.1109/TCI.2021.3118944.
Their convolutions are normalised; here so that the bound is true, and the identity is mixed in (see ``Prior``).
"""

from __future__ import annotations

from typing import Any

from napari_unroll.methods.algorithms.luser import START, STEP, dncnn
from napari_unroll.methods.algorithms.network import NetworkConfig
from napari_unroll.methods.algorithms.reconstruct import EquilibriumParams, learned
from napari_unroll.methods.equilibrium.config import EquilibriumConfig
from napari_unroll.methods.equilibrium.lipschitz import LipschitzConfig
from napari_unroll.scan.scan import Modality

SOURCE = "Gilton, Ongie, Willett, Deep Equilibrium Architectures (2021), doi:10.1109/TCI.2021.3118944"


def _network(modality: Modality, iteration: str) -> NetworkConfig:
    return NetworkConfig(
        iteration=iteration,
        prior=dncnn(modality),
        data_step=STEP,
        equilibrium=EquilibriumConfig(),
        lipschitz=LipschitzConfig(kind="layers"),
        start_iterations=START,
    )


def training(modality: Modality) -> dict[str, Any]:
    """The context of a patch is the fixed point of the whole volume; it is found by many evaluations, so it is used long."""
    return {"batch_size": 1, "context": "trajectory", "context_uses": 32}


DEQ4IP = learned(
    name="deq4ip",
    title="Equilibrium of proximal gradient (DEQ4IP, DE-PROX)",
    summary="Gradient step and network, repeated to their fixed point; training keeps the memory of one iteration.",
    source=f"{SOURCE}, eq. 14",
    params=EquilibriumParams,
    network=lambda modality: _network(modality, "proximal-gradient"),
    training=training,
)

DE_GRAD = learned(
    name="de-grad",
    title="Equilibrium of gradient descent (DE-GRAD)",
    summary="Gradients of the data and of a learned regulariser, followed to the point where they cancel.",
    source=f"{SOURCE}, eq. 12",
    params=EquilibriumParams,
    network=lambda modality: _network(modality, "gradient"),
    training=training,
)
