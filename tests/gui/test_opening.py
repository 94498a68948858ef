"""The first click of a user, each in a fresh process whose window has drawn on this machine's OpenGL: see ``fresh``.

Software OpenGL and triton bring an LLVM each; a process in which they meet dies. Nothing may be imported ahead here.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from napari_unroll.io.scan_file import write_scan
from tests.gui import fresh
from tests.gui.conftest import needs_opengl

pytestmark = needs_opengl


@pytest.fixture
def first(tmp_path):
    """Does one thing first in a process of its own, and fails with its words where it ends otherwise than well."""

    def run(what, argument=""):
        command = [sys.executable, str(Path(__file__).with_name("fresh.py")), str(tmp_path), what, str(argument)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"code {done.returncode}\n{done.stderr[-4000:]}"

    return run


def test_every_dock_from_the_menu_then_sample_fit_and_reconstruction(first):
    first("everything")


def test_start_here_opens_all_docks_as_tabs(first):
    first("start")


@pytest.mark.parametrize("name", fresh.DOCKS[1:])
def test_another_dock_as_the_first(first, name):
    first("dock", name)


def test_a_file_as_the_first(first, tmp_path, cone_scan):
    first("reader", write_scan(tmp_path / "scan.h5", cone_scan))


def test_sample_data_as_the_first(first):
    first("sample", "Multi-coil k-space, 8 coils, R = 5")


@pytest.mark.slow
def test_a_script_that_uses_a_dock_directly(first):
    first("direct")


def test_leaving_while_docks_are_loading(first):
    first("leave", "Reconstruct")


def test_preferences_hold_in_the_docks_and_settings_of_docks_outlive_the_session(first):
    first("preferences")
    first("remembered")
