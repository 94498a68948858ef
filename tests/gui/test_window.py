"""The whole window on a virtual screen: Load → Fit → Run → Cancel → Run, and what the layers then hold."""

import os
import threading

import numpy as np
import pytest

from napari_unroll.events import Outcome, Progress
from napari_unroll.gui import demo, jobs
from napari_unroll.gui.session import session_of
from napari_unroll.methods import registry
from napari_unroll.methods.problem import Method, MethodParams
from napari_unroll.physics.samples import sample_deblur
from napari_unroll.pipeline.metrics import psnr
from tests.gui.conftest import TIMEOUT_MS


@pytest.fixture
def docks(viewer):
    return demo.open_docks(viewer)


@pytest.fixture
def deblur_scan():
    return sample_deblur((1, 24, 24))


def ended(qtbot, docks):
    with qtbot.waitSignal(docks.scan.session.runner.run.finished, timeout=TIMEOUT_MS) as blocker:
        pass
    return blocker.args[0]


def test_load_fit_run_cancel_run(docks, viewer, qtbot):
    session = session_of(viewer)
    docks.scan.open_sample(next(iter(jobs.SAMPLES)))
    ended(qtbot, docks)
    truth = session.scan.truth

    docks.front(docks.normal)
    docks.normal.form.fields["n_probes"].value = 4
    docks.normal.fit_button.click()
    assert ended(qtbot, docks).outcome is Outcome.COMPLETED
    assert session.factors is not None

    docks.front(docks.reconstruct)
    docks.reconstruct.choose("tv-fista")
    docks.reconstruct.method.params.fields["n_iterations"].value = 10_000
    docks.reconstruct.method.params.fields["tolerance"].value = 0.0
    docks.reconstruct.run_button.click()
    with qtbot.waitSignal(session.runner.run.event, timeout=TIMEOUT_MS):
        pass
    docks.reconstruct.cancel_button.click()
    assert session.layers.ours("result") == []

    docks.reconstruct.method.params.fields["n_iterations"].value = 20
    docks.reconstruct.run_button.click()
    finished = ended(qtbot, docks)
    assert finished.outcome is Outcome.COMPLETED, finished.advice
    (layer,) = session.layers.ours("result")
    assert np.array_equal(layer.data, finished.result)
    assert psnr(layer.data, truth) > psnr(np.zeros_like(truth), truth) + 5
    assert not session.layers.streamer.active
    if os.environ["QT_QPA_PLATFORM"] != "offscreen":
        assert viewer.screenshot(flash=False)[..., :3].std() > 5

    viewer.dims.ndisplay = 3
    viewer.layers.clear()
    session.set_scan(session.scan)
    assert len(viewer.layers) == 2


@pytest.mark.parametrize("scan", ["cone_scan", "mri_scan", "deblur_scan"])
def test_there_is_a_picture_while_the_method_has_none(docks, viewer, qtbot, request, monkeypatch, scan):
    """At every moment of a run the canvas shows the scan or a volume, also while a method is busy before its first step."""
    gate, there = threading.Event(), threading.Event()

    def waits(problem, params):
        there.set()
        gate.wait(60)
        yield Progress(1, 1)
        return problem.zeros()[0, 0] + 1

    method = Method(name="waits", title="w", summary="w", source="none", params=MethodParams, solve=waits)
    monkeypatch.setitem(registry.METHODS, "waits", method)
    session = session_of(viewer)
    session.set_scan(request.getfixturevalue(scan))
    docks.reconstruct.choose("waits")
    before = [layer for layer in viewer.layers if layer.visible]
    docks.reconstruct.run_button.click()
    view = docks.reconstruct.runs.view
    assert [layer for layer in viewer.layers if layer.visible] == before
    qtbot.waitUntil(lambda: there.is_set() and view.layer.visible, timeout=TIMEOUT_MS)
    truth = np.abs(session.scan.truth)
    assert np.corrcoef(view.layer.data.ravel(), truth.ravel())[0, 1] > 0.7
    assert view.layer.contrast_limits[1] < 3 * truth.max()
    if os.environ["QT_QPA_PLATFORM"] != "offscreen":
        assert viewer.screenshot(flash=False)[..., :3].std() > 5
    gate.set()
    assert ended(qtbot, docks).outcome is Outcome.COMPLETED


def test_nothing_is_clipped_in_a_small_window(docks, viewer, qtbot):
    viewer.window.resize(1280, 720)
    for dock in (docks.scan, docks.normal, docks.reconstruct, docks.compare):
        docks.front(dock)
        qtbot.waitUntil(dock.isVisible)
        content = dock._scroll.widget()
        assert content.width() <= dock._scroll.viewport().width()
        assert content.minimumSizeHint().width() <= dock._scroll.viewport().width()


def test_closing_the_window_stops_the_run(make_napari_viewer, qtbot, cone_scan):
    viewer = make_napari_viewer()
    docks = demo.open_docks(viewer)
    session = session_of(viewer)
    session.set_scan(cone_scan)
    docks.reconstruct.choose("tv-fista")
    docks.reconstruct.method.params.fields["n_iterations"].value = 10_000
    docks.reconstruct.method.params.fields["tolerance"].value = 0.0
    docks.reconstruct.run_button.click()
    run = session.runner.run
    with qtbot.waitSignal(run.event, timeout=TIMEOUT_MS):
        pass
    viewer.close()
    assert run.stop.cancelled
    session.runner.wait()
    assert not [t.name for t in threading.enumerate() if t.name.startswith("unroll: ")]
