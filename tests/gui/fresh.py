"""What a user does first, in a process of its own: ``fresh.py FOLDER WHAT [ARGUMENT]``.

napari opens, draws, and only then something of this plugin is asked for; nothing of it is loaded before. Ends with code
0 when all went well; a clash of libraries ends the process with a signal. Not a test module: see ``test_opening``.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import napari
from qtpy.QtCore import QEvent, QEventLoop, QObject, QTimer, Signal
from qtpy.QtOpenGLWidgets import QOpenGLWidget

FRAMES = 5
TIMEOUT_MS = 240_000
HEAVY = ("torch", "deepinv", "triton")
DOCKS = ("Scan", "Normal operator", "Reconstruct", "Train", "Compare")
TINY = ("cone-beam", {"n": 16, "n_views": 12, "oversample": 1})


class ImportThreads:
    """Notes which threads import the heavy packages."""

    def __init__(self) -> None:
        self.found: dict[str, str] = {}

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name in HEAVY:
            self.found.setdefault(name, threading.current_thread().name)


def wait_for(signal: Any, do: Callable[[], Any] = lambda: None, count: int = 1) -> list[Any]:
    """What a signal brings after ``do``, ``count`` times; fails when it does not come."""
    loop, got = QEventLoop(), []

    def take(*values: Any) -> None:
        got.append(values[0] if values else None)
        if len(got) >= count:
            loop.quit()

    signal.connect(take)
    do()
    QTimer.singleShot(TIMEOUT_MS, loop.quit)
    if len(got) < count:
        loop.exec()
    signal.disconnect(take)
    assert len(got) >= count, f"{signal} came {len(got)} times of {count}"
    return got


def draw(viewer: Any, n_frames: int = FRAMES) -> None:
    """Wait until OpenGL has drawn and shown some frames."""
    (canvas,) = viewer.window._qt_window.findChildren(QOpenGLWidget)
    again = QTimer()
    again.timeout.connect(canvas.update)
    again.start(20)
    wait_for(canvas.frameSwapped, count=n_frames)


def menu_actions(viewer: Any) -> dict[tuple[str, ...], Any]:
    """Every entry of the menu bar by its path."""

    def walk(menu: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
        for action in menu.actions():
            here = (*path, action.text().replace("&", ""))
            if action.menu() is None:
                yield here, action
            else:
                yield from walk(action.menu(), here)

    return dict(walk(viewer.window._qt_window.menuBar(), ()))


class Painted(QObject):
    """Notes what is loaded when a widget is painted first."""

    loaded: set[str] | None = None

    def eventFilter(self, widget: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Type.Paint and self.loaded is None:
            self.loaded = set(HEAVY) & set(sys.modules)
        return False


class Opened(QObject):
    """Tells when every dock is in the window."""

    all_there = Signal()

    def __init__(self, window: Any) -> None:
        super().__init__(window)
        self._window, self._timer = window, QTimer(self)
        self._timer.timeout.connect(self._look)
        self._timer.start(20)

    def _look(self) -> None:
        from napari_unroll.gui.docks import OpeningDock, StartHere

        if len(self._window.findChildren(OpeningDock)) == len(DOCKS) and not self._window.findChildren(StartHere):
            self._timer.stop()
            self.all_there.emit()


def click(viewer: Any, name: str) -> Any:
    """Open a dock from the menu; the widget that napari holds."""
    menu_actions(viewer)["Plugins", "Unroll", f"{name} (Unroll)"].trigger()
    return viewer.window.dock_widgets[f"{name} (Unroll)"]


def first_dock(viewer: Any, name: str, threads: ImportThreads) -> Any:
    """A dock that is on screen with nothing heavy loaded, and filled by a thread."""
    widget, painted = click(viewer, name), Painted()
    widget.installEventFilter(painted)
    wait_for(widget.ready)
    assert painted.loaded == set(), painted.loaded
    assert threads.found == dict.fromkeys(HEAVY, "unroll-imports"), threads.found
    assert widget.dock.isVisible()
    return widget.dock


def dock(viewer: Any, name: str, threads: ImportThreads) -> None:
    """One dock from the menu."""
    first_dock(viewer, name, threads)
    draw(viewer)


def start(viewer: Any, _: str, threads: ImportThreads) -> None:
    """One entry opens every dock as a tab; the sample is the second click, Run the third."""
    menu_actions(viewer)["Plugins", "Unroll", "Start here (Unroll)"].trigger()
    window = viewer.window._qt_window
    wait_for(Opened(window).all_there)
    draw(viewer)
    docks = {name: viewer.window.dock_widgets[f"{name} (Unroll)"] for name in DOCKS}
    assert [name for name in DOCKS if not docks[name].visibleRegion().isEmpty()] == [DOCKS[0]]
    for name in DOCKS:
        if docks[name].dock is None:
            wait_for(docks[name].ready, lambda frame=docks[name]: frame.parent().raise_())
    from napari_unroll.gui import jobs
    from napari_unroll.gui.docks import DOCK_WIDTH, StartHere, frame_of

    assert frame_of(docks[DOCKS[0]]).width() >= DOCK_WIDTH
    assert not window.findChildren(StartHere)
    first = frame_of(docks[DOCKS[0]])
    assert len(window.tabifiedDockWidgets(first)) == len(DOCKS) - 1
    jobs.SAMPLES = dict.fromkeys(jobs.SAMPLES, TINY)
    reconstruct = docks["Reconstruct"].dock
    frame_of(reconstruct).raise_()
    completed(reconstruct, reconstruct.sample_button.click)
    reconstruct.choose("fdk")
    completed(reconstruct, reconstruct.run_button.click)
    draw(viewer)


def everything(viewer: Any, _: str, threads: ImportThreads) -> None:
    """Every dock from the menu, then sample, fit and reconstruction to the end."""
    scan = first_dock(viewer, DOCKS[0], threads)
    normal, reconstruct, *_ = [wait_for(click(viewer, name).ready)[0] for name in DOCKS[1:]]
    from napari_unroll.gui import jobs

    jobs.SAMPLES = dict.fromkeys(jobs.SAMPLES, TINY)
    completed(scan, lambda: scan.open_sample(next(iter(jobs.SAMPLES))))
    draw(viewer)
    normal.form.fields["n_probes"].value = 2
    completed(normal, normal.fit_button.click)
    draw(viewer)
    reconstruct.choose("tv-fista")
    reconstruct.method.params.fields["n_iterations"].value = 3
    finished = completed(reconstruct, reconstruct.run_button.click)
    (layer,) = reconstruct.session.layers.ours("result")
    assert (layer.data == finished.result).all()
    viewer.dims.ndisplay = 3
    draw(viewer)


def preferences(viewer: Any, _: str, threads: ImportThreads) -> None:
    """What is set in napari's preferences holds in the docks; what is set in a dock is there in the next session."""
    from napari.settings import get_plugin_settings

    page = get_plugin_settings("napari-unroll").computing
    page.device, page.precision, page.threads = "cpu", "bfloat16", 1
    dialog = viewer.window._open_preferences_dialog()
    titles = [dialog._list.item(i).text() for i in range(dialog._list.count())]
    assert "Unroll" in titles, titles
    dialog.close()
    reconstruct = first_dock(viewer, "Reconstruct", threads)
    choices = reconstruct.settings.value()
    assert (choices.device, choices.precision) == ("cpu", "bfloat16")
    from napari_unroll.gui import worker
    from napari_unroll.physics.pool import default_threads

    assert worker._n_threads() == default_threads() == 1
    page.threads = 2
    assert default_threads() == 2
    reconstruct.settings.fields["patch_size"].value = 40
    reconstruct.settings.fields["device"].value = "auto"


def remembered(viewer: Any, _: str, threads: ImportThreads) -> None:
    """The next session, after ``preferences``; its arrow forgets."""
    reconstruct = first_dock(viewer, "Reconstruct", threads)
    choices = reconstruct.settings.value()
    assert (choices.patch_size, choices.device, choices.precision) == (40, "auto", "bfloat16")
    reconstruct.reset_button.click()
    choices = reconstruct.settings.value()
    assert (choices.patch_size, choices.device) == ("auto", "cpu")
    assert not reconstruct.remembered._store.allKeys()


def completed(widget: Any, start: Callable[[], Any]) -> Any:
    """Start work in a dock and wait for its end."""
    start()
    (finished,) = wait_for(widget.session.runner.run.finished)
    assert finished.outcome == "completed", finished.advice
    return finished


def reader(viewer: Any, path: str, threads: ImportThreads) -> None:
    """A scan file, for which nothing heavy is needed at all."""
    (layer,) = viewer.open(path, plugin="napari-unroll")
    assert "napari-unroll.scan" in layer.metadata
    assert not threads.found, threads.found
    draw(viewer)


def sample(viewer: Any, title: str, *_: Any) -> None:
    """Sample data from the File menu."""
    menu_actions(viewer)["File", "Open Sample", "Unroll", title].trigger()
    assert len(viewer.layers) == 1
    draw(viewer)


def direct(viewer: Any, *_: Any) -> None:
    """A dock's own class, imported by a script."""
    from napari_unroll.gui.scan_dock import ScanDock

    viewer.window.add_dock_widget(ScanDock(viewer))
    draw(viewer)


def leave(viewer: Any, name: str, *_: Any) -> None:
    """The window and Python end while the imports run."""
    from napari_unroll.gui.loading import loader

    wait_for(loader().told, lambda: click(viewer, name))


def main(folder: str, what: str, argument: str = "") -> None:
    """Open napari, draw, do one thing, close."""
    os.environ["NAPARI_CONFIG"] = str(Path(folder) / "napari.yaml")
    os.environ["NAPARI_UNROLL_CACHE"] = str(Path(folder) / "cache")
    faulthandler.enable()
    threads = ImportThreads()
    sys.meta_path.insert(0, threads)  # type: ignore[arg-type]
    viewer = napari.Viewer()
    draw(viewer)
    assert not [name for name in sys.modules if name.startswith(HEAVY)]
    globals()[what](viewer, argument, threads)
    viewer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
