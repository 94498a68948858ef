"""The smallest of what the benchmark of the window prints: a picture before the end, a time before and beside that taken."""

import json

import pytest
from benchmarks import gui

from napari_unroll.cli.demo import virtual_screen
from tests.gui.conftest import needs_opengl


@needs_opengl
@pytest.mark.slow
def test_a_run_is_timed_at_two_sizes(tmp_path):
    found = tmp_path / "gui.json"
    gui.main(
        [
            "--only",
            "run",
            "--size",
            "8",
            "--views",
            "6",
            "--samples",
            "cone-beam",
            "--work",
            "sirt",
            "--json",
            str(found),
        ]
    )
    first, second = json.loads(found.read_text())["run"]["rows"]
    assert (first["calibrated"], second["calibrated"]) == (False, True)
    for row in (first, second):
        assert row["method"] == "sirt"
        assert 0 < row["first_picture_processor_s"] <= row["taken_s"]
        assert row["foretold_s"] > 0


@needs_opengl
@pytest.mark.slow
def test_a_dock_is_timed_from_its_menu_entry(tmp_path):
    with virtual_screen():
        row, _ = gui.child("open", tmp_path, name="Scan", other="Compare")
    assert 0 < row["on_screen_s"] < row["ready_s"]
