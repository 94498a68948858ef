import dataclasses

import numpy as np
import pytest
import torch

from napari_unroll.errors import Cancelled, ParameterError
from napari_unroll.events import IterationDone, PatchDone, Stop
from napari_unroll.methods.registry import default_for, for_scan, get, has_weights
from napari_unroll.normal.fit import FitOptions, fit_now
from tests.methods import tiny

SCANS = {"cone": tiny.cone, "parallel": tiny.parallel, "multi-coil": tiny.multicoil, "one slice": tiny.slice_mri}
EVERY = tiny.runs(SCANS)


def problem(method, scan, stop=None, **params):
    """A problem with small patches, and the fitted normal operator where the method needs it."""
    plain = tiny.problem(scan, stop, patch_size=(12, 16, 16), overlap=4)
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
def test_every_method_gives_up_when_cancelled(method, make, tmp_path):
    stop = Stop()
    stop.cancel()
    params = tiny.quick_params(method, make(), tmp_path)
    with pytest.raises(Cancelled, match="cancelled"):
        tiny.drain(method, problem(method, make(), stop, **params), **params)


@pytest.mark.parametrize("name", ["cgls", "tv-fista"])
def test_finish_now_returns_what_there_is(name):
    stop = Stop()
    method = get(name)
    work = method.solve(tiny.problem(tiny.cone(), stop), method.params(n_iterations=50))
    iterations = (e for e in work if isinstance(e, IterationDone))
    events = [next(iterations), next(iterations)]
    stop.finish()
    with pytest.raises(StopIteration) as end:
        next(work)
    assert [e.iteration for e in events] == [1, 2]
    assert torch.isfinite(end.value.value).all()


@pytest.mark.parametrize("name", ["cgls", "tv-fista"])
def test_scaling_the_data_scales_the_volume(name):
    """λ and tolerances have no unit, so attenuation in 1/m and 1/mm give the same picture."""
    scan = tiny.cone()
    scaled = dataclasses.replace(scan, measurements=1000 * scan.measurements)
    _, x = tiny.drain(get(name), tiny.problem(scan), n_iterations=6)
    _, x_scaled = tiny.drain(get(name), tiny.problem(scaled), n_iterations=6)
    torch.testing.assert_close(x_scaled / 1000, x, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["cgls", "tv-fista"])
def test_a_second_attempt_goes_on_from_the_state(name):
    """After out-of-memory the same state is handed over: the finished iterations are not repeated."""
    method, params = get(name), {"n_iterations": 8}
    given = tiny.problem(tiny.cone())
    work = method.solve(given, method.params(**params))
    for _ in range(5):
        next(e for e in work if isinstance(e, IterationDone))
    events, resumed = tiny.drain(method, given, **params)
    _, straight = tiny.drain(method, tiny.problem(tiny.cone()), **params)
    assert events[0].iteration == 6
    assert torch.linalg.vector_norm(resumed - straight) < 0.1 * torch.linalg.vector_norm(straight)


def test_names_that_do_not_exist_are_told():
    with pytest.raises(ParameterError, match=r"fdk.*got 'fkd'"):
        get("fkd")


def test_methods_of_a_scan_fit_its_modality():
    assert "fdk" in [m.name for m in for_scan(tiny.cone())]
    assert "fdk" not in [m.name for m in for_scan(tiny.multicoil())]


def test_the_default_needs_no_missing_weights():
    for make in SCANS.values():
        assert has_weights(default_for(make()), make())
