"""Factors on disk: found again for the same scan and options, and only for those."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_unroll.events import Finished, IterationDone, Outcome, Progress, Started, Stop, Warned
from napari_unroll.normal import cache
from napari_unroll.normal.cache import cache_folder, cache_path, cached_fit
from napari_unroll.normal.fit import FitOptions, fit_now
from napari_unroll.scan.scan import Scan
from tests.normal.toys import cone


@pytest.fixture
def case(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_UNROLL_CACHE", str(tmp_path / "cache"))
    physics = cone(8, 6)
    measurements = np.zeros(physics.geometry.measurement_shape, np.float32)
    return Scan(measurements=measurements, geometry=physics.geometry, grid=physics.grid), physics


OPTIONS = FitOptions(n_probes=4, n_test=1)


def test_the_second_fit_comes_from_disk(case):
    *_, first = cached_fit(*case, OPTIONS)
    events = list(cached_fit(*case, OPTIONS))
    assert "cache" in events[0].what
    assert torch.equal(first.result.kernel, events[-1].result.kernel)
    told = [e.metrics for e in events if isinstance(e, IterationDone)]
    assert told == first.result.info["history"]
    assert events[-1].history == first.history == tuple(m["error_image"] for m in told)
    assert len(list((cache_folder() / "normal").iterdir())) == 1


def test_other_geometry_or_options_are_fitted_again(case):
    scan, physics = case
    paths = {
        cache_path(scan, physics, OPTIONS),
        cache_path(scan, physics, FitOptions(n_probes=5)),
        cache_path(scan.subset(slice(0, 5)), physics, OPTIONS),
    }
    assert len(paths) == 3


def test_a_damaged_file_is_fitted_again(case):
    list(cached_fit(*case, OPTIONS))
    cache_path(*case, OPTIONS).write_bytes(b"half")
    *_, last = cached_fit(*case, OPTIONS)
    assert last.result is not None
    *_, again = cached_fit(*case, OPTIONS)
    assert again.seconds == 0


@pytest.mark.parametrize("place", [0.02, 0.5, 0.99])
def test_a_flipped_bit_is_found(case, place):
    *_, first = cached_fit(*case, OPTIONS)
    path = cache_path(*case, OPTIONS)
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1
    path.write_bytes(content)
    *events, again = cached_fit(*case, OPTIONS)
    assert any(isinstance(e, Warned) and "damaged" in e.text for e in events)
    assert again.seconds > 0
    torch.testing.assert_close(again.result.kernel, first.result.kernel)


def test_cancelled_fits_are_not_kept(case):
    stop = Stop()
    stop.cancel()
    *_, last = cached_fit(*case, OPTIONS, stop)
    assert last.outcome == Outcome.CANCELLED
    assert not cache_path(*case, OPTIONS).exists()


def test_a_folder_that_cannot_be_written_only_warns(case, tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("NAPARI_UNROLL_CACHE", str(blocked))
    events = list(cached_fit(*case, OPTIONS))
    assert any(isinstance(e, Warned) and "not kept" in e.text for e in events)
    assert isinstance(events[-1], Finished)
    assert events[-1].result is not None


LONG = FitOptions(n_probes=12, n_test=1, form="sum")


def cancelled_after(case, options, n):
    stop = Stop()
    for event in cached_fit(*case, options, stop):
        if isinstance(event, IterationDone) and event.iteration == n:
            stop.cancel()
    assert event.outcome is Outcome.CANCELLED


@pytest.mark.parametrize(
    "options",
    [
        LONG,
        LONG.model_copy(update={"form": "dcd"}),
        FitOptions(form="dcd", n_probes=6, n_test=0, support=4, coarse=2),
        FitOptions(recipe="paper", n_steps=12, n_test=1),
    ],
)
def test_an_interrupted_fit_goes_on_in_another_process(case, options):
    cancelled_after(case, options, 3)
    events = list(cached_fit(*case, options))
    begun = next(i for i, e in enumerate(events) if isinstance(e, Started))
    assert any(isinstance(e, Progress) and "Going on" in e.text for e in events[:begun])
    replayed = [e.metrics for e in events[:begun] if isinstance(e, IterationDone)]
    assert next(e.iteration for e in events[begun:] if isinstance(e, IterationDone)) == 4
    assert replayed == events[-1].result.info["history"][: len(replayed)]
    resumed, whole = events[-1].result, fit_now(case[1], options)
    assert torch.allclose(resumed.kernel, whole.kernel, atol=1e-5 * float(whole.kernel.abs().max()))
    assert resumed.info["operator_calls"] == whole.info["operator_calls"]
    assert [p.suffix for p in (cache_folder() / "normal").iterdir()] == [".safetensors"]


def test_a_killed_fit_goes_on_from_what_it_wrote(case, monkeypatch):
    monkeypatch.setattr(cache, "SAVE_EVERY_S", 0.0)
    events = cached_fit(*case, LONG)
    while not (isinstance(event := next(events), IterationDone) and event.iteration == 6):
        pass
    del events
    events = list(cached_fit(*case, LONG))
    begun = next(i for i, e in enumerate(events) if isinstance(e, Started))
    assert next(e.iteration for e in events[begun:] if isinstance(e, IterationDone)) in (6, 7)


def test_a_fit_that_is_killed_after_its_last_probe_takes_no_more(case, monkeypatch):
    """It had ended because more of them gain little; what it wrote says so."""
    monkeypatch.setattr(cache, "SAVE_EVERY_S", 0.0)
    monkeypatch.setattr("napari_unroll.normal.fit.settled", lambda before, after: True)
    whole = fit_now(case[1], LONG)
    assert len(whole.info["history"]) == 4
    events = cached_fit(*case, LONG)
    while not (isinstance(event := next(events), IterationDone) and event.iteration == 8):
        pass
    del events
    *_, last = cached_fit(*case, LONG)
    assert last.result.info["history"] == whole.info["history"]
    assert torch.equal(last.result.kernel, whole.kernel)


def test_a_damaged_state_starts_anew(case):
    cancelled_after(case, LONG, 3)
    cache_path(*case, LONG).with_suffix(".unfinished").write_bytes(b"half")
    steps = [e.iteration for e in cached_fit(*case, LONG) if isinstance(e, IterationDone)]
    assert min(steps) == 1
