"""Factors on disk: found again for the same scan and options, and only for those."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_unroll.events import Finished, Outcome, Stop, Warned
from napari_unroll.normal.cache import cache_folder, cache_path, cached_fit
from napari_unroll.normal.fit import FitOptions
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
    assert events[-1].history == (first.result.info["error_image"],)
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
