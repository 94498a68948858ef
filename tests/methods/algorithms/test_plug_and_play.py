"""Accelerated proximal gradient with a relaxed network: its limits are those that the algebra predicts."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_unroll.errors import WeightsError
from napari_unroll.events import IterationDone, PatchDone, map_events, result_of
from napari_unroll.methods.algorithms.network import Network, NetworkConfig
from napari_unroll.methods.algorithms.plug_and_play import MARGIN, PnPParams, accelerated
from napari_unroll.methods.classical.strength import mean_eigenvalue
from napari_unroll.methods.networks.drunet import DRUNetConfig
from napari_unroll.methods.networks.unet import UNetConfig
from napari_unroll.methods.registry import get
from napari_unroll.methods.steps.prox import proximal_steps
from napari_unroll.methods.weights import save_network
from tests.methods import tiny

SCANS = {"cone": tiny.cone, "parallel": tiny.parallel, "multi-coil": tiny.multicoil}
PLAIN = {"tolerance": 0.0, "positivity": False, "strength": 0.3, "stop_at_rise": False}


def identity(x):
    return x


def volume(given, prior, start=None, **params):
    start = given.physics.A_dagger(given.y) if start is None else start
    return result_of(accelerated(given, PnPParams(**PLAIN | params), prior, start))


def relative(x, expected):
    return float((x - expected).norm() / expected.norm())


def normal_of(given):
    return lambda x: given.physics.A_adjoint(given.physics.A(x))


@pytest.mark.parametrize("make", SCANS.values(), ids=SCANS)
def test_an_identity_prior_leaves_accelerated_gradient_descent(make):
    """Nesterov's recursion on ½‖A x − y‖², whatever λ is."""
    given = tiny.problem(make(), patch_size=(8, 12, 12), overlap=3)
    step = 1 / (MARGIN * result_of(given.find_norm()))
    x = z = given.physics.A_dagger(given.y)
    t = 1.0
    for _ in range(4):
        ahead = z - step * given.physics.A_adjoint(given.physics.A(z) - given.y)
        t, last = 0.5 * (1 + (1 + 4 * t * t) ** 0.5), t
        x, z = ahead, ahead + (last - 1) / t * (ahead - x)
    assert relative(volume(given, identity, n_iterations=4)[None, None], x) < 1e-4


@pytest.mark.parametrize("make", [tiny.parallel, tiny.multicoil])
def test_a_prior_of_zeros_leaves_tikhonov(make):
    """x = (1 − α)(x − τ∇f(x)) is (N + λμ) x = Aᴴy."""
    given = tiny.problem(make())
    x = volume(given, torch.zeros_like, n_iterations=250)[None, None]
    weight = PLAIN["strength"] * mean_eigenvalue(given.physics)
    *_, expected = proximal_steps(normal_of(given), given.adjoint, torch.zeros_like(x), weight, 1e-6, 200)
    assert relative(x, expected) < 1e-3


def test_the_limit_is_a_fixed_point():
    """x = α D(v) + (1 − α) v at v = x − τ∇f(x), for a D that smooths and shrinks."""
    given = tiny.problem(tiny.parallel())

    def prior(x):
        return 0.5 * x + 0.4 * torch.nn.functional.avg_pool3d(x, 3, 1, 1)

    x = volume(given, prior, n_iterations=250)[None, None]
    step = 1 / (MARGIN * result_of(given.find_norm()))
    w = step * PLAIN["strength"] * mean_eigenvalue(given.physics)
    v = x - step * (normal_of(given)(x) - given.adjoint)
    assert relative((w * prior(v) + v) / (1 + w), x) < 1e-4


@pytest.mark.parametrize("make", [tiny.cone, tiny.multicoil])
def test_a_network_of_zeros_is_the_classical_step(make, tmp_path):
    network = Network(
        NetworkConfig(
            iteration="one-pass", prior=DRUNetConfig(channels=(4, 4, 4, 4), complex_valued=make is tiny.multicoil)
        )
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    save_network(network, tmp_path / "zero.safetensors", "drunet")
    params = PLAIN | {"n_iterations": 3, "weights": str(tmp_path / "zero.safetensors")}
    _, x = tiny.drain(get("pnp-pgd"), tiny.problem(make()), **params)
    assert relative(x, volume(tiny.problem(make()), identity, n_iterations=3)) < 1e-5


def test_a_heavy_prior_has_the_last_word():
    """α → 1 with λ: the volume is D of a gradient step."""
    given = tiny.problem(tiny.multicoil())
    x = volume(given, lambda v: 0.5 * v, n_iterations=1, strength=1e6)[None, None]
    start = given.physics.A_dagger(given.y)
    step = 1 / (MARGIN * result_of(given.find_norm()))
    expected = 0.5 * (start - step * (normal_of(given)(start) - given.adjoint))
    assert relative(x, expected) < 1e-4


def test_attenuation_stays_positive_where_that_is_asked_for():
    given = tiny.problem(tiny.cone())
    assert float(volume(given, identity, n_iterations=2).min()) < 0
    assert float(volume(tiny.problem(tiny.cone()), identity, n_iterations=2, positivity=True).min()) == 0


def test_scaling_the_data_scales_the_volume():
    scan = tiny.cone()
    scaled = replace(scan, measurements=1000 * scan.measurements)

    def prior(x):
        return x.clamp(0, 1)

    x, scaled_x = (volume(tiny.problem(s), prior, n_iterations=5) for s in (scan, scaled))
    assert relative(scaled_x / 1000, x) < 1e-4


def test_patches_stream_and_finishing_keeps_those_that_have_arrived():
    given = tiny.problem(tiny.cone(), patch_size=(12, 12, 12), overlap=4)
    params = PnPParams(**PLAIN, n_iterations=5)
    work = accelerated(given, params, lambda v: v - 1.0, given.physics.A_dagger(given.y))
    shown, n_patches = None, 0
    for event in map_events(work, given.estimate.see):
        if isinstance(event, IterationDone):
            assert event.residual is not None
            shown = event.values.copy()
        elif isinstance(event, PatchDone) and shown is not None:
            assert event.consistency is not None
            n_patches += 1
            shown[event.box] = event.values
            if n_patches == 3:
                break
    np.testing.assert_array_equal(given.estimate.values(), shown)
    assert given.state["iteration"] == 1


def test_it_goes_on_from_its_state():
    """A second attempt repeats nothing and ends where one attempt would have."""
    given, params = tiny.problem(tiny.parallel()), PnPParams(**PLAIN, n_iterations=6)
    start = given.physics.A_dagger(given.y)
    work = accelerated(given, params, lambda v: 0.9 * v, start)
    for _ in range(3):
        next(e for e in work if isinstance(e, IterationDone))
    events = list(accelerated(given, params, lambda v: 0.9 * v, start))
    assert [e.iteration for e in events if isinstance(e, IterationDone)] == [4, 5, 6]
    straight = volume(tiny.problem(tiny.parallel()), lambda v: 0.9 * v, n_iterations=6)
    torch.testing.assert_close(given.state["x"][0, 0], straight, rtol=1e-5, atol=1e-6)


def test_it_stops_where_nothing_changes():
    given = tiny.problem(tiny.multicoil())
    events = list(accelerated(given, PnPParams(tolerance=0.5), lambda v: v, given.physics.A_dagger(given.y)))
    assert [e.iteration for e in events if isinstance(e, IterationDone)] == [1]


def test_it_stops_where_the_residual_rises():
    """A prior that begins to add what nobody measured: the iterate before is the result."""
    calls = []

    def prior(x):
        calls.append(x)
        return x if len(calls) < 5 else x + 10

    given = tiny.problem(tiny.multicoil())
    x = volume(given, prior, n_iterations=20, stop_at_rise=True)
    assert len(calls) == given.state["iteration"] == 5
    torch.testing.assert_close(x, given.state["x"][0, 0])
    calls.clear()
    volume(tiny.problem(tiny.multicoil()), prior, n_iterations=20)
    assert len(calls) == 20


def test_networks_of_either_kind_serve_and_others_are_refused(tmp_path):
    for method, prior in (("unet", UNetConfig(channels=(4, 4))), ("dpir", DRUNetConfig(channels=(4, 4, 4, 4)))):
        save_network(
            Network(NetworkConfig(iteration="one-pass", prior=prior)), tmp_path / f"{method}.safetensors", method
        )
    given = tiny.problem(tiny.cone())
    tiny.drain(get("pnp-pgd"), given, n_iterations=1, weights=str(tmp_path / "unet.safetensors"))
    with pytest.raises(WeightsError, match="trained for dpir, not for drunet or unet"):
        tiny.drain(get("pnp-pgd"), given, n_iterations=1, weights=str(tmp_path / "dpir.safetensors"))
