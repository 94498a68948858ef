import dataclasses

import numpy as np
import pytest
import torch

from napari_unroll.errors import ParameterError
from napari_unroll.events import IterationDone, PatchDone
from napari_unroll.methods.registry import METHODS, default_for, for_scan, get, has_weights
from napari_unroll.normal.fit import FitOptions, fit_now
from tests.methods import tiny

EVERY = tiny.applicable()
SOLVERS = [pytest.param(m, id=name) for name, m in METHODS.items() if m.iterative and not m.needs_weights]


def first_scan(method):
    """The first kind of scan that the method applies to."""
    return next(make() for make in tiny.SCANS.values() if not method.obstacle(make()))


def problem(method, scan, **params):
    """A problem with small patches, and the fitted normal operator where the method needs it."""
    plain = tiny.problem(scan, patch_size=(12, 16, 16), overlap=4)
    if method.needs_normal is None or not method.needs_normal(method.params(**params)):
        return plain
    return dataclasses.replace(plain, normal=fit_now(plain.physics, FitOptions(n_probes=4, n_test=0)))


@pytest.mark.parametrize(("method", "make"), EVERY)
def test_every_method_gives_a_finite_volume_on_every_modality_it_declares(method, make, tmp_path):
    scan = make()
    params = tiny.quick_params(method, scan, tmp_path)
    events, volume = tiny.drain(method, problem(method, scan, **params), **params)
    assert tuple(volume.shape) == scan.grid.shape
    assert volume.is_complex() == (scan.modality == "mri")
    assert torch.isfinite(volume).all()
    shown = np.zeros(scan.grid.shape, np.complex64 if volume.is_complex() else np.float32)
    for event in events:
        if isinstance(event, PatchDone):
            shown[event.box] = event.values
        elif isinstance(event, IterationDone) and event.values is not None:
            shown[:] = event.values
    np.testing.assert_allclose(shown, volume.numpy(), rtol=1e-3, atol=1e-4 * np.abs(shown).max())


@pytest.mark.parametrize(("method", "make"), EVERY)
def test_every_method_keeps_what_it_returns(method, make, tmp_path):
    """Its events and what it keeps add up to the volume, so Finish now returns nothing else."""
    scan = make()
    params = tiny.quick_params(method, scan, tmp_path)
    given = problem(method, scan, **params)
    events, volume = tiny.drain(method, given, **params)
    for event in events:
        given.estimate.see(event)
    np.testing.assert_allclose(
        given.estimate.values(), volume.numpy(), rtol=1e-3, atol=1e-4 * float(volume.abs().max())
    )


@pytest.mark.parametrize("method", SOLVERS)
def test_scaling_the_data_scales_the_volume(method):
    """λ and tolerances have no unit, so attenuation in 1/m and 1/mm give the same picture."""
    scan = first_scan(method)
    scaled = dataclasses.replace(scan, measurements=1000 * scan.measurements)
    _, x = tiny.drain(method, tiny.problem(scan), n_iterations=6)
    _, x_scaled = tiny.drain(method, tiny.problem(scaled), n_iterations=6)
    torch.testing.assert_close(x_scaled / 1000, x, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("method", SOLVERS)
def test_a_second_attempt_goes_on_from_the_state(method):
    """After out-of-memory the same state is handed over: the finished iterations are not repeated."""
    scan, params = first_scan(method), {"n_iterations": 8, "tolerance": 0}
    given = tiny.problem(scan)
    for _ in method.solve(given, method.params(**params)):
        if given.state.get("iteration", 0) == 5:
            break
    events, resumed = tiny.drain(method, given, **params)
    _, straight = tiny.drain(method, tiny.problem(scan), **params)
    assert next(e.iteration for e in events if isinstance(e, IterationDone)) == 6
    assert torch.linalg.vector_norm(resumed - straight) < 0.1 * torch.linalg.vector_norm(straight)


@pytest.mark.parametrize("method", SOLVERS)
def test_no_signal_gives_no_volume(method):
    given = tiny.problem(first_scan(method))
    given.y.zero_()
    _, x = tiny.drain(method, given, n_iterations=3)
    assert x.abs().max() == 0


def test_names_that_do_not_exist_are_told():
    with pytest.raises(ParameterError, match=r"fdk.*got 'fkd'"):
        get("fkd")


def test_methods_of_a_scan_fit_its_modality():
    assert "fdk" in [m.name for m in for_scan(tiny.cone())]
    assert "fdk" not in [m.name for m in for_scan(tiny.multicoil())]


def test_methods_of_a_scan_fit_its_geometry():
    assert "fbp" in [m.name for m in for_scan(tiny.parallel())]
    assert "fbp" not in [m.name for m in for_scan(tiny.cone())]
    assert "for parallel beams" in get("fbp").obstacle(tiny.cone())
    assert "MRI" in get("fbp").obstacle(tiny.multicoil())


def test_the_default_is_the_best_trained_network():
    """Not one of the small networks that are shipped so that their methods run."""
    assert default_for(tiny.cone()).name == default_for(tiny.multicoil()).name == "unrolled-pgd"


def test_the_default_needs_no_missing_weights():
    for make in tiny.SCANS.values():
        assert has_weights(default_for(make()), make())
