"""Networks: patches beside one untiled pass, and a training step beside deepinv's unrolled network on the whole volume."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from deepinv.optim import L2, PGD, PnP
from speed_ct import cone, fitted, size
from speed_row import Row, against, seconds

from napari_unroll.events import result_of
from napari_unroll.methods.algorithms.network import Network
from napari_unroll.methods.algorithms.passes import prior_pass
from napari_unroll.methods.patchwise import Stage
from napari_unroll.methods.problem import Problem, measured
from napari_unroll.methods.registry import get
from napari_unroll.methods.weights import find, load_network
from napari_unroll.physics.build import build_physics
from napari_unroll.physics.samples import sample_cone_beam
from napari_unroll.pipeline.plan import Choices, resolve
from napari_unroll.training.options import TrainOptions
from napari_unroll.training.sampler import PatchSampler
from napari_unroll.training.samples import build_sample
from napari_unroll.training.tasks.patch import PatchTask

WEIGHTS = "cone-beam"


def network_in_patches(quick: bool) -> Row:
    """One pass of the prior in float32 as the plan cuts the volume, and the same in one piece."""
    n, views = (32, 10) if quick else (128, 50)
    scan = sample_cone_beam(n, views, oversample=1)
    chosen = {"patch_size": "16"} if quick else {}
    plan = resolve(Choices(method="unrolled-pgd", device="cpu", precision="float32", **chosen), scan)
    problem = Problem(
        scan=scan, physics=build_physics(scan, "cpu"), y=measured(scan, "cpu"), patch_size=plan.patch_size,
        overlap=plan.overlap,
    )  # fmt: skip
    network, x = shipped(), torch.from_numpy(scan.truth / scan.truth.max())[None, None]

    @torch.no_grad()
    def whole() -> torch.Tensor:
        return network.denoise(x, 0)

    @torch.no_grad()
    def ours() -> torch.Tensor:
        prior = lambda patch: network.denoise(patch, 0)  # noqa: E731
        return result_of(prior_pass(problem, x, prior, Stage("network"), 1.0, reach=network.config.prior.reach))

    name = f"network, {n}³ in patches of {'×'.join(map(str, plan.patch_size))}"
    return against(name, "one untiled pass", ours, whole, 1.3, close=5e-2)


def training_step(quick: bool) -> Row:
    """Forward and backward per voxel that is learned from: a patch in its context, and the whole volume through A and Aᴴ."""
    scan, physics = cone(quick)
    network = shipped().train().requires_grad_(True)
    sample = build_sample(scan, physics, network.config.model_copy(update={"start_iterations": 2}), fitted(quick))
    edge = 8 if quick else 48
    options = TrainOptions(**defaults() | {"patch_size": (edge,) * 3, "context": "start"})
    task = PatchTask(PatchSampler([(sample, 0)], (edge,) * 3, 0), [fitted(quick)], options)
    n_voxels = options.batch_size * edge**3
    both = stepped(network, lambda: task.loss(network, False)), stepped(network, whole_volume(quick, network))
    ours, theirs = (s / n for s, n in zip(seconds(*both), (n_voxels, scan.truth.size), strict=True))
    name = f"{size(quick)}: training step, {options.batch_size} patches of {edge}³, per 1000 voxels"
    return Row(name, "deepinv's PGD(unfold=True), whole volume, float32", 1000 * ours, 1000 * theirs, None, 0.5)


def whole_volume(quick: bool, network: Network) -> Callable[[], torch.Tensor]:
    """The loss of deepinv's proximal gradient with the network's own prior, as many iterations."""
    scan, physics = cone(quick)
    y, truth = (torch.from_numpy(np.ascontiguousarray(v))[None, None] for v in (scan.measurements, scan.truth))
    scale = float(truth.max())
    n = network.n_iterations
    model = PGD(
        L2(), PnP(denoiser=network.prior(0)), max_iter=n, stepsize=[1e-3] * n, sigma_denoiser=[0.1] * n, unfold=True
    )
    return lambda: (model(y / scale, physics) - truth / scale).square().mean()


def stepped(network: Network, loss: Callable[[], torch.Tensor]) -> Callable[[], None]:
    """Forward and backward."""

    def step() -> None:
        network.zero_grad(set_to_none=True)
        loss().backward()

    step()  # loads and plans
    return step


def defaults() -> dict[str, Any]:
    """Training options of the method for X-rays."""
    learning = get("unrolled-pgd").learning
    assert learning is not None
    return dict(learning.options("ct"))


def shipped() -> Network:
    """The network that ships."""
    return load_network(find(WEIGHTS).path)


ROWS: dict[str, Callable[[bool], Row]] = {"network": network_in_patches, "training step": training_step}
