"""Everything that takes input says what it is: a tip under the mouse, a name for screen readers; keys start and stop a run."""

import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractSpinBox,
    QComboBox,
    QLineEdit,
    QMenu,
    QPushButton,
    QScrollBar,
    QSlider,
    QTableWidget,
    QWidget,
)

from napari_unroll.gui import demo
from napari_unroll.gui.curve import Curve
from napari_unroll.gui.parts import Fold
from tests.gui.conftest import TIMEOUT_MS, needs_opengl

INPUTS = (QAbstractButton, QAbstractSpinBox, QComboBox, QLineEdit, QSlider, QTableWidget)


@pytest.fixture
def docks(viewer):
    return demo.open_docks(viewer)


def inputs(dock):
    """What a user can set in a dock; parts of another input, of tables, plots and folds are not asked."""
    menus = [menu for curve in dock.findChildren(Curve) for menu in curve.findChildren(QMenu)]
    for widget in dock.findChildren(QWidget):
        if any(menu.isAncestorOf(widget) for menu in menus):
            continue
        parent = widget.parentWidget()
        inner = isinstance(parent, (QAbstractSpinBox, QComboBox, QTableWidget)) or isinstance(widget, QScrollBar)
        fold = isinstance(parent, Fold) and isinstance(widget, QPushButton)
        if isinstance(widget, INPUTS) and not inner and not fold:
            yield widget


def told(widget):
    """Its own tip, or that of the field around it."""
    return widget.toolTip() or widget.parentWidget().toolTip()


def named(widget):
    text = widget.text() if isinstance(widget, QAbstractButton) else ""
    return widget.accessibleName() or text or widget.parentWidget().accessibleName()


@pytest.mark.parametrize("name", ["scan", "normal", "reconstruct", "train", "compare"])
def test_every_input_has_a_tip_and_a_name(docks, cone_scan, name):
    docks.scan.session.set_scan(cone_scan)
    dock = getattr(docks, name)
    found = list(inputs(dock))
    assert found
    mute = [(type(w).__name__, w.objectName()) for w in found if not told(w) or not named(w)]
    assert not mute


@needs_opengl
def test_keys_run_and_cancel(docks, viewer, qtbot, cone_scan):
    session = docks.scan.session
    session.set_scan(cone_scan)
    docks.front(docks.reconstruct)
    qtbot.waitUntil(docks.reconstruct.run_button.isVisible)
    docks.reconstruct.choose("tv-fista")
    docks.reconstruct.method.params.fields["n_iterations"].value = 10_000
    docks.reconstruct.method.params.fields["tolerance"].value = 0.0
    window = viewer.window._qt_window
    window.activateWindow()
    qtbot.waitUntil(window.isActiveWindow)
    qtbot.keyClick(docks.reconstruct, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
    qtbot.waitUntil(lambda: session.runner.busy, timeout=TIMEOUT_MS)
    with qtbot.waitSignal(session.runner.run.event, timeout=TIMEOUT_MS):
        pass
    qtbot.keyClick(docks.reconstruct, Qt.Key.Key_Period, Qt.KeyboardModifier.ControlModifier)
    qtbot.waitUntil(lambda: not session.runner.busy, timeout=TIMEOUT_MS)
    assert session.layers.ours("result") == []
