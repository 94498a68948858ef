"""The main job in the window: sample scan, fit, reconstruction that streams.

``show`` opens napari and leaves it open; ``screenshot`` drives the same window and writes its picture. Run as a module
by the command line: ``python -m napari_unroll.gui.demo show|screenshot SIZE VIEWS [PATH]``.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qtpy.QtCore import QEventLoop, Qt, QTimer
from qtpy.QtWidgets import QWidget

from napari_unroll.errors import UnrollError
from napari_unroll.events import Outcome
from napari_unroll.gui.compare_dock import CompareDock
from napari_unroll.gui.docks import DOCK_WIDTH, frame_of
from napari_unroll.gui.normal_dock import NormalDock
from napari_unroll.gui.reconstruct_dock import ReconstructDock
from napari_unroll.gui.scan_dock import ScanDock
from napari_unroll.gui.train_dock import TrainDock
from napari_unroll.io.atomic import replacing
from napari_unroll.pipeline import sources

TIMEOUT_MS = 3_600_000


@dataclass
class Docks:
    """The docks of one window, in tabs at its right side."""

    viewer: Any
    scan: ScanDock
    normal: NormalDock
    reconstruct: ReconstructDock
    train: TrainDock
    compare: CompareDock

    def front(self, widget: QWidget) -> None:
        """Bring one dock to the front."""
        dock = frame_of(widget)
        if dock is not None:
            dock.show()
            dock.raise_()


def open_docks(viewer: Any) -> Docks:
    """Open every dock as a tab at the right side of the window."""
    kinds = {
        "Scan": ScanDock, "Normal operator": NormalDock, "Reconstruct": ReconstructDock, "Train": TrainDock,
        "Compare": CompareDock,
    }  # fmt: skip
    made = []
    for name, kind in kinds.items():
        made.append(kind(viewer))
        viewer.window.add_dock_widget(made[-1], name=name, area="right", tabify=bool(made[:-1]))
    docks = Docks(viewer, *made)
    frames = [f for f in map(frame_of, made) if f is not None]
    window = viewer.window._qt_window
    window.resizeDocks(frames[:1], [DOCK_WIDTH], Qt.Orientation.Horizontal)
    docks.front(docks.scan)
    return docks


def wait_for(signal: Any, timeout_ms: int = TIMEOUT_MS) -> Any:
    """Let the window live until a signal comes; its first argument. Raises UnrollError when it never does."""
    loop, got = QEventLoop(), []

    def take(*values: Any) -> None:
        got.append(values[0] if values else None)
        loop.quit()

    signal.connect(take)
    timer = QTimer()
    timer.setSingleShot(True)
    timer.timeout.connect(loop.quit)
    timer.start(timeout_ms)
    loop.exec()
    signal.disconnect(take)
    if not got:
        raise UnrollError(f"The window did nothing for {timeout_ms / 1000:.0f} s.")
    return got[0]


def settle(milliseconds: int = 300) -> None:
    """Let the window draw."""
    loop = QEventLoop()
    QTimer.singleShot(milliseconds, loop.quit)
    loop.exec()


def main_job(docks: Docks, size: int, n_views: int, method: str = "auto") -> None:
    """Load the sample, fit the normal operator, reconstruct. Raises UnrollError with the run's own words."""
    session = docks.scan.session
    session.set_scan(sources.sample("cone-beam", {"n": size, "n_views": n_views}))
    docks.front(docks.normal)
    docks.normal.fit()
    _ended(session)
    docks.front(docks.reconstruct)
    docks.reconstruct.choose(method)
    docks.reconstruct.run()
    _ended(session)


def _ended(session: Any) -> None:
    run = session.runner.run
    if run is None:
        raise UnrollError("Nothing was started; the message in the dock says why.")
    finished = wait_for(run.finished)
    if finished.outcome is Outcome.FAILED:
        raise UnrollError(finished.advice)


def open_window(width: int = 1600, height: int = 1000) -> Docks:
    """A napari window with the docks open."""
    import napari

    viewer = napari.Viewer(title="napari-unroll")
    viewer.window.resize(width, height)
    return open_docks(viewer)


def show(size: int = 96, n_views: int = 50) -> None:
    """Open napari, run the main job in it, leave it open."""
    import napari

    docks = open_window()
    QTimer.singleShot(0, lambda: _told(docks, size, n_views))
    napari.run()


def _told(docks: Docks, size: int, n_views: int) -> None:
    try:
        main_job(docks, size, n_views)
    except UnrollError as error:
        docks.reconstruct.message.error(error)


def screenshot(path: Path, size: int = 96, n_views: int = 50, method: str = "auto") -> None:
    """Drive the same window and write its picture."""
    docks = open_window()
    try:
        main_job(docks, size, n_views, method)
        settle()
        with replacing(path, overwrite=True) as temporary:
            docks.viewer.screenshot(str(temporary), canvas_only=False, flash=False)
    finally:
        docks.viewer.close()


def main(arguments: list[str]) -> int:
    """``show SIZE VIEWS`` or ``screenshot SIZE VIEWS PATH``; 1 and a sentence where it fails."""
    what, size, n_views, *more = arguments
    if sys.platform.startswith("linux") and os.environ.get("DISPLAY"):
        os.environ["QT_QPA_PLATFORM"] = "xcb"  # the offscreen platform draws no OpenGL
    try:
        if what == "show":
            show(int(size), int(n_views))
        else:
            screenshot(Path(more[0]), int(size), int(n_views))
    except UnrollError as error:
        print(f"napari-unroll: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
