"""The demo drives the real window and writes its picture; failures are a sentence and a code."""

import numpy as np
import pytest
from imageio.v3 import imread

from napari_unroll.errors import UnrollError
from napari_unroll.gui import demo
from napari_unroll.gui.worker import Runner
from tests.gui.conftest import needs_opengl


@needs_opengl
def test_the_main_job_ends_with_a_picture(viewer, tmp_path):
    docks = demo.open_docks(viewer)
    docks.normal.form.fields["n_probes"].value = 2
    demo.main_job(docks, size=16, n_views=8, method="fdk")
    assert docks.scan.session.factors is not None
    assert len(docks.scan.session.layers.ours("result")) == 1
    path = tmp_path / "screenshot.png"
    viewer.screenshot(str(path), canvas_only=False, flash=False)
    picture = imread(path)
    assert picture.shape[0] > 300
    assert np.unique(picture.reshape(-1, picture.shape[-1]), axis=0).shape[0] > 50


def test_waiting_for_nothing_is_an_error(qtbot):
    runner = Runner()
    with pytest.raises(UnrollError, match="did nothing"):
        demo.wait_for(runner.busy_changed, timeout_ms=20)


def test_failures_are_a_sentence_and_a_code(monkeypatch, capsys, tmp_path):
    def broken(*args, **kwargs):
        raise UnrollError("No window here.")

    monkeypatch.setattr(demo, "screenshot", broken)
    assert demo.main(["screenshot", "16", "8", str(tmp_path / "a.png")]) == 1
    assert "No window here." in capsys.readouterr().err


def test_show_leaves_the_window_open(monkeypatch):
    seen = []
    monkeypatch.setattr(demo, "show", lambda size, views: seen.append((size, views)))
    assert demo.main(["show", "16", "8"]) == 0
    assert seen == [(16, 8)]
