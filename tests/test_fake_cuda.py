"""The GPU's path without a GPU: tensors that have a device but no values refuse what mixes devices, as real ones do.

torch's FakeTensorMode knows shapes, types and devices. Modules are built with "cuda" as default device, for ``.to`` fails
there. Whatever runs afterwards has none, as in real runs. What looks at values (``likely``) is given some; backward passes ask
for a real GPU, so that they run on the device "meta", which does not mix with others either.
"""

import contextlib
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from napari_unroll.events import PatchDone
from napari_unroll.methods import patchwise
from napari_unroll.methods.algorithms.iterations import State
from napari_unroll.methods.algorithms.network import Network, NetworkConfig
from napari_unroll.methods.algorithms.passes import clean, prior_pass
from napari_unroll.methods.equilibrium.config import EquilibriumConfig
from napari_unroll.methods.equilibrium.layer import fixed_point
from napari_unroll.methods.journal import Journal, Patch
from napari_unroll.methods.networks.dncnn import DnCNNConfig
from napari_unroll.methods.networks.drunet import DRUNetConfig
from napari_unroll.methods.networks.unet import UNetConfig
from napari_unroll.methods.patchwise import Stage
from napari_unroll.methods.steps.data import Data
from napari_unroll.methods.steps.gradient import GradientStepConfig
from napari_unroll.methods.steps.resolvent import ResolventStepConfig
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


class Likely(TorchDispatchMode):
    """Every condition holds and every number is a half: loops go on to their most steps. Masks choose all of a vector."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten._local_scalar_dense.default:
            return args[0].dtype is torch.bool or 0.5
        if func is torch.ops.aten.index.Tensor and args[1][0].dtype is torch.bool:
            return torch.empty_like(args[0])
        return func(*args, **(kwargs or {}))


@pytest.fixture
def likely():
    with Likely():
        yield


@pytest.fixture
def meta(monkeypatch):
    """A device on which gradients pass; it has no autocast."""
    monkeypatch.setattr(torch, "autocast", lambda *of, **more: contextlib.nullcontext())
    return "meta"


@pytest.fixture
def autocast(monkeypatch):
    """As if there were a GPU."""
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)


def on_cuda(*shape, dtype=torch.float32, device="cuda"):
    return torch.empty(shape, device=device, dtype=dtype)


def is_there(x, shape, device="cuda"):
    return x.device.type == device and tuple(x.shape) == tuple(shape)


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


def data_for(boxes, device="cuda"):
    factors = factors_on(device)
    factors.once(("inverse", 0.2), lambda: factors_on(device))  # its making looks at values
    context, residual = (on_cuda(1, 1, *SHAPE, device=device) for _ in range(2))
    return Data(local_problem(factors, context, residual, boxes), factors, boxes)


def network_on_cuda(device="cuda", **more):
    with pytest.MonkeyPatch.context() as patch, torch.device(device):
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


@torch.no_grad()
def test_resolvent_steps(likely):
    """Conjugate gradients and their preconditioner, whose making looks at values."""
    with torch.device("cuda"):
        module = ResolventStepConfig(max_steps=2).build(2)
    u = on_cuda(2, 1, *PATCH)
    assert is_there(module(u, 1, data_for(BOXES)), u.shape)


def test_gradients_pass_through_resolvent_steps(likely, meta):
    with torch.device(meta):
        module = ResolventStepConfig(max_steps=2).build(2)
    u = on_cuda(2, 1, *PATCH, device=meta).requires_grad_()
    module(u, 1, data_for(BOXES, meta)).sum().backward()
    assert is_there(u.grad, u.shape, meta)
    assert is_there(module.log_strength.grad, (1,), meta)


@pytest.mark.parametrize("prior", PRIORS.values(), ids=PRIORS)
def test_networks(prior):
    network = network_on_cuda(prior=prior, data_step=GradientStepConfig(), n_iterations=2)
    u = on_cuda(2, 1, *PATCH)
    cleaned = clean(lambda x: network.denoise(x, 0), u, "float32", self_ensemble=True)
    assert is_there(cleaned, u.shape)
    assert cleaned.dtype is torch.float32


def test_low_precision(autocast):
    """Of the network only: data steps and results stay in float32."""
    network = network_on_cuda(prior=PRIORS["drunet"], data_step=GradientStepConfig(), n_iterations=1)
    u, data, seen = on_cuda(2, 1, *PATCH), data_for(BOXES), []
    for module in network.modules():
        if isinstance(module, torch.nn.Conv3d):
            module.register_forward_hook(lambda module, given, made: seen.append(made.dtype))

    def prior(x):
        seen.append(data.gradient(x).dtype)
        return network.denoise(x, 0)

    cleaned = clean(prior, u, "float16", self_ensemble=False)
    assert is_there(cleaned, u.shape)
    assert cleaned.dtype is torch.float32
    assert seen[0] is torch.float32
    assert set(seen[1:]) == {torch.float16}


EQUILIBRIA = {
    "anderson": EquilibriumConfig(max_evaluations=4),
    "damped": EquilibriumConfig(max_evaluations=3, solver="damped"),
    "jacobian-free": EquilibriumConfig(max_evaluations=3, gradient="jacobian-free"),
    "phantom": EquilibriumConfig(max_evaluations=3, gradient="phantom", phantom_steps=2),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
@pytest.mark.parametrize("config", EQUILIBRIA.values(), ids=EQUILIBRIA)
def test_equilibria(config, dtype, likely):
    weight, start = on_cuda(8, 8, dtype=dtype).requires_grad_(), on_cuda(2, 1, *PATCH, dtype=dtype)
    assert is_there(fixed_point(lambda z: z @ weight, start, config), start.shape)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("config", EQUILIBRIA.values(), ids=EQUILIBRIA)
def test_gradients_pass_through_equilibria(config, recompute, likely, meta):
    weight = on_cuda(8, 8, device=meta).requires_grad_()
    found = fixed_point(lambda z: z @ weight, on_cuda(2, 1, *PATCH, device=meta), config, recompute)
    found.sum().backward()
    assert is_there(weight.grad, weight.shape, meta)


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


class Stream:
    """Knows no time."""

    def __init__(self, device=None):
        self.device = torch.device(device or "cuda")

    def wait_stream(self, other):
        assert other.device.type == "cuda"

    def record_event(self):
        return SimpleNamespace(synchronize=lambda: None)


@pytest.fixture
def streams(monkeypatch):
    """As if there were some, and memory that is pinned for them."""
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", contextlib.nullcontext)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda self, stream: None)
    monkeypatch.setattr(torch, "empty", partial(unpinned, torch.empty))


def unpinned(empty, *shape, pin_memory=False, **layout):
    return empty(*shape, **layout)


@pytest.mark.parametrize("kind", ["unrolled", "half-quadratic"])
@torch.no_grad()
def test_an_iteration_with_its_volumes_in_memory_and_its_patches_on_the_card(kind, streams, likely, monkeypatch):
    """Data steps on the one side, the network on the other; what is blended comes from pinned memory."""
    network = network_on_cuda("cpu", **LEARNED[kind])
    monkeypatch.setattr(torch.nn.Module, "to", moved)
    monkeypatch.setattr(patchwise, "as_values", lambda x: x)
    network.split_to(torch.device("cuda"))
    card = next(network.priors.parameters()).device
    assert card.type == "cuda"
    seen, data = [], data_for([tuple(slice(0, n) for n in SHAPE)], "cpu")
    problem = SimpleNamespace(
        network_device=card, shape=SHAPE, patch_size=PATCH, overlap=2, state={}, journal=Journal()
    )
    state = State(on_cuda(1, 1, *SHAPE, device="cpu"))
    given = network.before(state, 0, data)
    assert is_there(given, state.x.shape, "cpu")

    def prior(x):
        seen.append(x.device.type)
        return clean(lambda u: network.denoise(u, 0), x, "float32", self_ensemble=True)

    events = list(keep_result(prior_pass(problem, given, prior, Stage("iteration"), 1.0), kept := []))
    (cleaned,) = kept
    assert set(seen) == {"cuda"}
    assert len(seen) == len(PatchGrid(SHAPE, PATCH, 2))
    assert {e.values.device.type for e in events if isinstance(e, PatchDone)} == {"cpu"}
    assert is_there(network.after(state, cleaned, 0, data).x, state.x.shape, "cpu")


def moved(module, device):
    """What ``to`` does with real tensors."""
    for each in module.modules():
        there = {name: torch.nn.Parameter(x.to(device)) for name, x in each._parameters.items() if x is not None}
        each._parameters.update(there)
    return module


def keep_result(work, kept):
    kept.append((yield from work))


class Everywhere:
    """The data term of the same patches at every iteration."""

    def at(self, x, k):
        return data_for(BOXES, x.device.type)


@pytest.mark.parametrize("recompute", [False, True])
def test_a_training_step(recompute):
    """All of it but the backward pass."""
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


LEARNED = {
    "unrolled": {"prior": PRIORS["drunet"], "data_step": STEPS["preconditioned"], "n_iterations": 2},
    "half-quadratic": {
        "iteration": "half-quadratic", "prior": PRIORS["dncnn"], "n_iterations": 2,
        "data_step": ResolventStepConfig(max_steps=2),
    },
    "equilibrium": {
        "prior": PRIORS["dncnn"], "data_step": GradientStepConfig(), "equilibrium": EQUILIBRIA["anderson"],
    },
}  # fmt: skip


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("network", LEARNED.values(), ids=LEARNED)
def test_the_backward_pass_of_a_training_step(network, recompute, likely, meta):
    made = network_on_cuda(meta, **network)
    x, truth = (on_cuda(2, 1, *PATCH, device=meta) for _ in range(2))
    trace = made(x, Everywhere(), recompute)
    sum((i - truth).abs().mean() for i in trace.iterates).backward()
    trained = [p for p in made.parameters() if p.grad is not None]
    assert trained
    assert all(is_there(p.grad, p.shape, meta) for p in trained)
    torch.optim.Adam(made.parameters()).step()
