"""The rows of unrolled splitting methods: MoDL and ADMM-Net, a small network between exact data steps."""

from __future__ import annotations

from napari_unroll.methods.algorithms.luser import START, training
from napari_unroll.methods.algorithms.network import NetworkConfig
from napari_unroll.methods.algorithms.post_processing import SEES
from napari_unroll.methods.algorithms.reconstruct import UnrolledParams, learned
from napari_unroll.methods.networks.dncnn import CNNConfig
from napari_unroll.methods.steps.resolvent import ResolventStepConfig
from napari_unroll.scan.scan import Modality

K = 10


def _network(modality: Modality, iteration: str) -> NetworkConfig:
    return NetworkConfig(
        iteration=iteration,
        prior=CNNConfig(**SEES[modality]),
        data_step=ResolventStepConfig(),
        n_iterations=K,
        start_iterations=START,
    )


MODL = learned(
    name="modl",
    title="Model-based deep learning (MoDL)",
    summary="Ten times a small network and a data step that is solved by conjugate gradients.",
    source="Aggarwal, Mani, Jacob, MoDL (2019), doi:10.1109/TMI.2018.2865356, eq. 10",
    params=UnrolledParams,
    network=lambda modality: _network(modality, "half-quadratic"),
    training=training,
)

ADMM_NET = learned(
    name="admm-net",
    title="Unrolled ADMM (ADMM-Net)",
    summary="As MoDL, with the dual variable of the alternating direction method of multipliers.",
    source="Yang, Sun, Li, Xu, ADMM-CSNet (2020), doi:10.1109/TPAMI.2018.2883941",
    params=UnrolledParams,
    network=lambda modality: _network(modality, "admm"),
    training=training,
)
