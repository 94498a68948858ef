"""Docks on demand: what is on screen while the imports run, and what may happen meanwhile; nothing is imported here."""

import subprocess
import sys
import threading

import pytest

from napari_unroll.gui import docks, heavy
from napari_unroll.gui.loading import loader
from napari_unroll.gui.scan_dock import ScanDock
from tests.gui.conftest import TIMEOUT_MS

NEW = """
import importlib, sys
import napari.layers, napari.qt.threading, napari.viewer
{prepare}
before = set(sys.modules)
for name in sys.argv[1:]:
    importlib.import_module("napari_unroll.gui." + name)
print(*sorted(set(sys.modules) - before))
"""


def new_modules(prepare, *names):
    """The modules that importing some of ours adds to those of napari and to what ``prepare`` imports."""
    command = [sys.executable, "-c", NEW.format(prepare=prepare), *names]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def test_what_the_manifest_names_imports_nothing_heavy():
    new = new_modules("", "docks", "contributions")
    assert "napari_unroll.gui.worker" in new
    assert {name.partition(".")[0] for name in new} <= {
        "napari_unroll",
        "napari",
        "magicgui",  # which napari's own window has loaded
        "superqt",
        "qtpy",
        "PyQt6",
        "pydantic",
    }


def test_docks_find_everything_of_the_other_rooms_loaded():
    kinds = ("scan_dock", "normal_dock", "reconstruct_dock", "train_dock", "compare_dock")
    new = new_modules("from napari_unroll.gui import heavy; heavy.load()", *kinds)
    ours = {name for name in new if name.startswith("napari_unroll.")}
    assert "napari_unroll.gui.train_dock" in ours
    assert all(name.startswith("napari_unroll.gui.") for name in ours)
    assert not {name.partition(".")[0] for name in new} & {"torch", "deepinv", "scipy", "skimage", "h5py", "zarr"}


@pytest.fixture
def gate(monkeypatch):
    """The imports wait until the gate is set."""
    gate = threading.Event()
    monkeypatch.setattr(heavy, "import_module", lambda name: gate.wait(30))
    yield gate
    gate.set()


@pytest.fixture
def opened(viewer):
    """Opens a dock by its name."""
    return lambda name: viewer.window.add_plugin_dock_widget("napari-unroll", name)[1]


def comes(qtbot, *signals):
    return qtbot.waitSignals(signals, timeout=TIMEOUT_MS)


def test_what_is_loading_is_said_until_the_dock_is_there(opened, gate, qtbot):
    with comes(qtbot, loader().told):
        scan = opened("Scan")
    qtbot.waitUntil(lambda: scan.message.text() == "Loading PyTorch …")
    assert scan.message.isVisible()
    assert scan.dock is None
    with comes(qtbot, scan.ready):
        gate.set()
    assert isinstance(scan.dock, ScanDock)
    assert scan.dock.isVisible()
    assert not scan.message.isVisible()
    assert not scan.bar.isVisible()


def test_two_docks_opened_at_once_share_the_imports_and_the_place(opened, viewer, gate, qtbot):
    with comes(qtbot, loader().told):
        scan = opened("Scan")
    normal = opened("Normal operator")
    frames = [docks.frame_of(w) for w in (scan, normal)]
    window = viewer.window._qt_window
    qtbot.waitUntil(lambda: window.tabifiedDockWidgets(frames[0]) == [frames[1]])
    qtbot.waitUntil(lambda: scan.visibleRegion().isEmpty() and not normal.visibleRegion().isEmpty())
    with comes(qtbot, scan.ready, normal.ready):
        gate.set()
    assert scan.dock.session is normal.dock.session


def test_a_dock_closed_while_loading_stays_closed(opened, viewer, gate, qtbot):
    with comes(qtbot, loader().told):
        scan, compare = opened("Scan"), opened("Compare")
    viewer.window.remove_dock_widget(scan)
    with comes(qtbot, compare.ready):
        gate.set()
    assert scan.dock is None
    scan.deleteLater()


def test_a_dock_hidden_while_loading_fills_when_it_is_shown_again(opened, gate, qtbot):
    with comes(qtbot, loader().told):
        scan = opened("Scan")
    frame = docks.frame_of(scan)
    frame.hide()
    with comes(qtbot, loader().ended):
        gate.set()
    assert scan.dock is None
    with comes(qtbot, scan.ready):
        frame.show()


def test_a_window_closed_while_loading_is_forgotten(make_napari_viewer, gate, qtbot):
    viewer = make_napari_viewer(show=True)
    with comes(qtbot, loader().told):
        viewer.window.add_plugin_dock_widget("napari-unroll", "Scan")
    viewer.close()
    with comes(qtbot, loader().ended):
        gate.set()


def test_a_failed_import_is_a_sentence_in_the_dock_and_may_be_tried_again(opened, monkeypatch, qtbot, caplog):
    def broken(name):
        raise ImportError("libtorch_cpu.so: cannot open shared object file\nmore")

    with monkeypatch.context() as patched:
        patched.setattr(heavy, "import_module", broken)
        scan = opened("Scan")
        with qtbot.waitSignal(scan.failed, timeout=TIMEOUT_MS) as failed:
            pass
    (sentence,) = failed.args
    assert "libtorch_cpu.so: cannot open shared object file." in sentence
    assert "more" not in sentence
    assert scan.message.isVisible()
    assert scan.message.text() == sentence
    assert scan.message.kind == "error"
    frame = docks.frame_of(scan)
    frame.hide()
    with comes(qtbot, scan.ready):
        frame.show()
    assert not scan.message.isVisible()


def test_a_dock_that_cannot_be_built_says_so(opened, monkeypatch, qtbot, caplog):
    monkeypatch.setattr(docks.Scan, "make", lambda self: 1 / 0)
    scan = opened("Scan")
    with comes(qtbot, scan.failed):
        pass
    assert "division by zero" in scan.message.text()


def test_scripts_get_the_dock_at_once(opened):
    scan = opened("Scan")
    assert isinstance(scan.open_now(), ScanDock)
    assert scan.open_now() is scan.dock
