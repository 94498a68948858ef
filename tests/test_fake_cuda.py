"""The GPU's path without a GPU: tensors that have a device but no values refuse what mixes devices, as real ones do.

torch's FakeTensorMode knows shapes, types and devices. Modules are built with "cuda" as default device, for ``.to`` fails
there; low precision is not seen, for autocast asks for a real GPU. Whatever runs afterwards has none, as in real runs.
"""

from dataclasses import replace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from napari_unroll.methods.algorithms.network import Network, NetworkConfig
from napari_unroll.methods.algorithms.passes import clean
from napari_unroll.methods.journal import Patch
from napari_unroll.methods.networks.dncnn import DnCNNConfig
from napari_unroll.methods.networks.drunet import DRUNetConfig
from napari_unroll.methods.networks.unet import UNetConfig
from napari_unroll.methods.steps.data import Data
from napari_unroll.methods.steps.gradient import GradientStepConfig
from napari_unroll.normal.factors import NormalFactors
from napari_unroll.patches.blend import Blender
from napari_unroll.patches.context import cut, local_problem
from napari_unroll.patches.grid import PatchGrid

SHAPE, PATCH = (12, 16, 16), (8, 8, 8)
BOXES = [(slice(0, 8), slice(2, 10), slice(0, 8)), (slice(4, 12), slice(8, 16), slice(8, 16))]
PRIORS = {
    "drunet": DRUNetConfig(channels=(4, 4, 8, 8)),
    "unet": UNetConfig(),
    "dncnn": DnCNNConfig(width=4, layers=3),
    "2.5-D": DRUNetConfig(channels=(4, 4, 8, 8), dim=2, neighbours=1),
}


@pytest.fixture(autouse=True)
def fake():
    with FakeTensorMode():
        yield


def on_cuda(*shape, dtype=torch.float32):
    return torch.empty(shape, device="cuda", dtype=dtype)


def is_there(x, shape):
    return x.device.type == "cuda" and tuple(x.shape) == tuple(shape)


FACTORS = {
    "D C D": {},
    "coils": {"k": 3, "dtype": torch.complex64},
    "sums": {"k": 2, "pairs": ((0, 0, 0), (1, 1, 1), (0, 1, 0))},
    "left only": {"right": None},
    "polynomial": {"polynomial": True},
    "circular": {"circular": (True, False, True)},
}


def factors_on(device, k=1, dtype=torch.float32, circular=(False,) * 3, **more):
    lags = [n if c else 2 * n for n, c in zip(SHAPE, circular, strict=True)]
    left = torch.empty(1 if more.get("polynomial") else k, *SHAPE, device=device, dtype=dtype)
    made = {"kernel": torch.empty(k, *lags, device=device), "left": left, "right": left, "shape": SHAPE}
    factors = NormalFactors(**(made | {"circular": circular} | more))
    factors.once(("norm",), lambda: 1.0)
    return factors


def test_mixed_devices_are_refused():
    """What all others here rest on."""
    with pytest.raises(RuntimeError, match="device"):
        on_cuda(3) + torch.empty(3)


@pytest.mark.parametrize("more", FACTORS.values(), ids=FACTORS)
def test_factors(more):
    factors = factors_on("cuda", **more)
    x, u = on_cuda(1, 1, *SHAPE, dtype=factors.dtype), on_cuda(2, 1, *PATCH, dtype=factors.dtype)
    assert is_there(factors.apply(x), x.shape)
    assert is_there(factors.restrict(BOXES).apply(u), u.shape)
    assert is_there(factors.crop(PATCH).restrict(BOXES).apply(u), u.shape)


@pytest.mark.parametrize("more", FACTORS.values(), ids=FACTORS)
def test_factors_that_are_moved(more):
    """Fitted on the CPU, then taken along; lists of indices and coordinates included."""
    factors = factors_on("cpu", **more)
    u = torch.empty(2, 1, *PATCH, dtype=factors.dtype)
    factors.restrict(BOXES).apply(u)
    parts = {n: getattr(factors, n) for n in ("kernel", "left", "right")}
    moved = replace(
        factors, _cache={}, **{n: None if t is None else torch.empty_like(t, device="cuda") for n, t in parts.items()}
    )
    assert is_there(moved.restrict(BOXES).apply(torch.empty_like(u, device="cuda")), u.shape)


def data_for(boxes):
    factors = factors_on("cuda")
    factors.once(("inverse", 0.2), lambda: factors_on("cuda"))  # its making looks at values
    context, residual = on_cuda(1, 1, *SHAPE), on_cuda(1, 1, *SHAPE)
    return Data(local_problem(factors, context, residual, boxes), factors, boxes)


def network_on_cuda(**more):
    with pytest.MonkeyPatch.context() as patch, torch.device("cuda"):
        patch.setattr(torch.nn.Module, "to", lambda self, *place, **layout: self)
        return Network(NetworkConfig(**more))


STEPS = {
    "gradient": GradientStepConfig(preconditioner=None),
    "preconditioned": GradientStepConfig(preconditioner=0.2, substeps=2),
    "polynomial": GradientStepConfig(preconditioner=0.2, degree=3),
}


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
@torch.no_grad()
def test_data_steps(step):
    with torch.device("cuda"):
        module = step.build(2)
    u = on_cuda(2, 1, *PATCH)
    assert is_there(module(u, 1, data_for(BOXES)), u.shape)


@pytest.mark.parametrize("prior", PRIORS.values(), ids=PRIORS)
def test_networks(prior):
    network = network_on_cuda(prior=prior, data_step=GradientStepConfig(), n_iterations=2)
    u = on_cuda(2, 1, *PATCH)
    cleaned = clean(lambda x: network.denoise(x, 0), u, "float32", self_ensemble=True)
    assert is_there(cleaned, u.shape)
    assert cleaned.dtype is torch.float32


@torch.no_grad()
def test_a_sliding_window_and_its_blending():
    network = network_on_cuda(prior=PRIORS["drunet"], data_step=GradientStepConfig(), n_iterations=1)
    given, grid, blenders = on_cuda(1, 1, *SHAPE), PatchGrid(SHAPE, PATCH, 2), []

    def apply(boxes):
        cleaned = network.denoise(cut(given, boxes), 0)
        blenders.append(cleaned.device.type)
        return [Patch(b, v) for b, v in zip(boxes, cleaned, strict=True)]

    blender = Blender(SHAPE, torch.float32, 2, "cuda")
    for boxes in grid.batches(2):
        for patch in apply(boxes):
            blender.add(patch.box, patch.values)
    assert is_there(blender.values(), SHAPE)
    assert set(blenders) == {"cuda"}


class Everywhere:
    """The data term of the same patches at every iteration."""

    def at(self, x, k):
        return data_for(BOXES)


@pytest.mark.parametrize("recompute", [False, True])
def test_a_training_step(recompute):
    """All of it but the backward pass, which asks for a real GPU."""
    network = network_on_cuda(prior=PRIORS["drunet"], data_step=STEPS["preconditioned"], n_iterations=2)
    optimiser = torch.optim.Adam(network.parameters())
    x, truth = on_cuda(2, 1, *PATCH), on_cuda(2, 1, *PATCH)
    trace = network(x, Everywhere(), recompute)
    loss = sum((i - truth).abs().mean() for i in trace.iterates)
    assert is_there(loss, ())
    assert loss.requires_grad
    for p in network.parameters():
        p.grad = torch.empty_like(p)
    optimiser.step()
