"""What ``gui.py`` measures in processes of their own: ``gui_window.py open|run|cancel|close JSON`` prints JSON.

Only standard Python is imported here, so that a process begins as a user's does.
"""

from __future__ import annotations

import functools
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

FRAMES = 5
REST_S, REST_SHARE = 0.3, 0.1
"""At rest is a process that used less than this share of one processor for that long."""
LIMIT_S = 600.0
KEPT = "tv-pdhg"
"""The method whose run is kept in a file while it goes: it applies to every scan, and its state is written often."""
NEED_THE_FIT = ("comparison", "effect", "patch")
SAMPLES: dict[str, Callable[[int, int], dict[str, Any]]] = {
    "cone-beam": lambda size, views: {"n": size, "n_views": views},
    "multi-coil": lambda size, views: {"shape": (size // 2, size, size)},
    "deblur": lambda size, views: {"shape": (1, 4 * size, 4 * size)},
    "super-resolution": lambda size, views: {"shape": (1, 3 * size, 3 * size)},
}


def until(done: Callable[[], Any], limit_s: float = LIMIT_S) -> float:
    """Let the window live until something holds; the seconds that took, infinity where it never did."""
    from qtpy.QtCore import QEventLoop, QTimer

    loop, timer, begun = QEventLoop(), QTimer(), time.perf_counter()
    timer.timeout.connect(lambda: loop.quit() if done() or time.perf_counter() - begun > limit_s else None)
    timer.start(2)
    if not done():
        loop.exec()
    return time.perf_counter() - begun if done() else float("inf")


def live(seconds: float) -> None:
    """Let the window live for a while."""
    end = time.perf_counter() + seconds
    until(lambda: time.perf_counter() > end)


def window() -> Any:
    """A napari window that has drawn, with nothing of the plugin loaded."""
    import napari
    from qtpy.QtOpenGLWidgets import QOpenGLWidget

    viewer = napari.Viewer()
    viewer.window.resize(1500, 950)
    (canvas,) = viewer.window._qt_window.findChildren(QOpenGLWidget)
    frames: list[None] = []
    canvas.frameSwapped.connect(lambda: frames.append(None))
    until(lambda: canvas.update() or len(frames) >= FRAMES)
    live(2)
    return viewer


# opening


def entries(menu: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The entries of a menu and of its submenus, by path."""
    for action in menu.actions():
        here = (*path, action.text().replace("&", ""))
        if action.menu() is None:
            yield here, action
        else:
            yield from entries(action.menu(), here)


def click(viewer: Any, name: str) -> tuple[Any, float]:
    """Open a dock from the menu; the widget, and the seconds until its first picture was handed to the screen."""
    from qtpy.QtCore import QEvent, QObject, QTimer

    class Watch(QObject):
        painted = 0.0

        def note(self) -> None:
            self.painted = self.painted or time.perf_counter()

        def eventFilter(self, widget: QObject, event: QEvent) -> bool:
            if event.type() == QEvent.Type.Paint:
                QTimer.singleShot(0, self.note)  # after the paint events, so after the window was flushed
            return False

    action = dict(entries(viewer.window._qt_window.menuBar()))["Plugins", "Unroll", f"{name} (Unroll)"]
    watch, begun = Watch(), time.perf_counter()
    action.trigger()
    widget = viewer.window.dock_widgets[f"{name} (Unroll)"]
    widget.installEventFilter(watch)
    until(lambda: watch.painted)
    widget.removeEventFilter(watch)
    return widget, watch.painted - begun


def measure_open(name: str, other: str) -> dict[str, Any]:
    """One dock first: click to screen, screen to ready, the longest standstill meanwhile; another dock 1 s later."""
    from streaming import Heartbeat

    viewer = window()
    widget, on_screen = click(viewer, name)
    beat = Heartbeat()
    beat.start()
    begun = time.perf_counter()
    ready: list[float] = []
    widget.ready.connect(lambda _: ready.append(time.perf_counter() - begun))
    live(1)
    _, meanwhile = click(viewer, other)
    until(lambda: ready)
    viewer.close()
    return {
        "dock": name, "on_screen_s": on_screen, "ready_s": ready[0], "longest_standstill_s": max(beat.gaps) / 1e3,
        "another_meanwhile_s": meanwhile,
    }  # fmt: skip


# ending


def works(docks: Any, sample: str) -> dict[str, Callable[[], Any]]:
    """Name → what starts it: the stages of the docks, and every method that can run on the scan."""
    from napari_unroll.gui import jobs
    from napari_unroll.methods.registry import for_scan, has_weights

    scan, title = docks.scan.session.scan, next(t for t, (name, _) in jobs.SAMPLES.items() if name == sample)

    def method(name: str) -> Callable[[], Any]:
        return lambda: (docks.reconstruct.choose(name), docks.reconstruct.run())

    stages = {
        "operator check": docks.scan.check_pair,
        "geometry check": docks.scan.check_geometry,
        "fit": docks.normal.fit,
        "comparison": docks.normal.compare,
        "effect": docks.normal.measure_effect,
        "patch": docks.normal.check_patch,
        "training": docks.train.start,
    }
    if scan.modality != "ct":
        del stages["geometry check"]

    def into_a_file() -> None:
        docks.reconstruct.choose(KEPT)
        docks.reconstruct.run(Path(tempfile.mkdtemp(dir=os.environ["BENCHMARK_FOLDER"])) / "kept.ome.zarr")

    stages["run into a file"] = into_a_file
    methods = {m.name: method(m.name) for m in for_scan(scan) if has_weights(m, scan)}
    return stages | methods | {"sample": lambda: docks.scan.open_sample(title)}  # last: another scan ends the fit


def open_all(sample: str, size: int, views: int, work: str = "") -> Any:
    """A window with every dock and a scan; the operator is fitted unless the one work to measure needs no fit."""
    from napari_unroll.gui import demo, jobs
    from napari_unroll.pipeline import sources

    jobs.SAMPLES = {t: (name, SAMPLES[name](size, views)) for t, (name, _) in jobs.SAMPLES.items() if name in SAMPLES}
    docks = demo.open_docks(window())
    docks.scan.session.set_scan(sources.sample(sample, SAMPLES[sample](size, views)))
    if work in ("", *NEED_THE_FIT):
        docks.normal.fit()
        until(lambda: docks.normal.fitted is not None)
    return docks


def begin(docks: Any, start: Callable[[], Any]) -> list[Any]:
    """Start a work with empty caches and folders; the runners that were started."""
    folder = tempfile.mkdtemp(dir=os.environ["BENCHMARK_FOLDER"])
    os.environ["NAPARI_UNROLL_CACHE"] = folder
    docks.train.form.out.value = Path(folder) / "trained"
    start()
    session = docks.scan.session
    return [runner for runner in (session.runner, session.training) if runner.busy]


def silence() -> None:
    """Let the window live until no worker's thread is left."""
    from qtpy.QtCore import QThreadPool

    until(lambda: QThreadPool.globalInstance().activeThreadCount() == 0)


def measure_cancel(sample: str, size: int, views: int, moments: list[float], only: str = "") -> list[dict[str, Any]]:
    """Cancel → idle for one sample: every work, cancelled at several moments after its start."""
    docks = open_all(sample, size, views, only)
    rows = []
    for name in [only] if only else works(docks, sample):
        for moment in moments:
            runners = begin(docks, works(docks, sample)[name])
            end = time.perf_counter() + moment
            until(lambda end=end, runners=runners: time.perf_counter() > end or not any(r.busy for r in runners))
            if not any(runner.busy for runner in runners):
                break
            pressed, used = time.perf_counter(), time.process_time()
            for runner in runners:
                runner.cancel()
            silence()
            idle, took = time.perf_counter() - pressed, time.process_time() - used
            rows.append({"sample": sample, "work": name, "after_s": moment, "idle_s": idle, "idle_processor_s": took})
            print(rows[-1], file=sys.stderr, flush=True)
    docks.viewer.close()
    return rows


def measure_run(sample: str, sizes: list[int], views: int, only: str = "") -> list[dict[str, Any]]:
    """Run → first picture, and the times foretold beside those taken: every method at every size in one window.

    Times foretold and taken are processor seconds of this process, also inside the forecast: others may use the machine. The
    first size calibrates. ``left_off`` is the median error of the time left between a tenth and nine tenths of the run, as a part
    of what was left then; ``left_worst`` the largest.
    """
    from napari_unroll.pipeline import forecast, run

    run.Forecaster = functools.partial(forecast.Forecaster, clock=time.process_time)
    rows = []
    docks = open_all(sample, sizes[0], views, "run")
    session = docks.scan.session
    for size in sizes:
        from napari_unroll.pipeline import sources

        session.set_scan(sources.sample(sample, SAMPLES[sample](size, views)))
        for name in [n for n in works(docks, sample) if docks.reconstruct.method.list.findData(n) >= 0]:
            if only in ("", name):
                rows.append({"sample": sample, "size": size, "method": name, **timed_run(docks, name)})
                print(rows[-1], file=sys.stderr, flush=True)
    docks.viewer.close()
    return rows


def timed_run(docks: Any, name: str) -> dict[str, Any]:
    """Figures of one run."""
    from napari_unroll.events import Forecast

    dock, told = docks.reconstruct, []
    dock.choose(name)
    expected = dock.estimate().expected
    begun, used = time.perf_counter(), time.process_time()
    dock.run()
    run, view = dock.session.runner.run, dock.runs.view
    run.event.connect(lambda e: told.append((time.process_time() - used, e)) if isinstance(e, Forecast) else None)
    until(lambda: view.layer.visible or run.over)
    picture, processor = time.perf_counter() - begun, time.process_time() - used
    until(lambda: run.over)
    took = time.process_time() - used
    left = [(now, e.left_s) for now, e in told if e.left_s is not None and 0.1 < now / took < 0.9]
    errors = [abs(s - (took - now)) / (took - now) for now, s in left]
    return {
        "first_picture_s": picture,
        "first_picture_processor_s": processor,
        "foretold_s": expected.seconds,
        "calibrated": bool(expected.stages),
        "taken_s": took,
        "left_off": statistics.median(errors) if errors else None,
        "left_worst": max(errors, default=None),
    }


def measure_close(sample: str, size: int, views: int, work: str, after: float) -> dict[str, Any]:
    """The user's way out: the window is closed while ``work`` goes on; "" is a window with nothing going on.

    Seconds until no worker's thread is left, and until the process rests; ``closed`` is the time of the closing. The
    window keeps the interpreter busy while it is taken down, so a thread of its own watches the workers.
    """
    from qtpy.QtCore import QThreadPool
    from qtpy.QtWidgets import QApplication

    docks = open_all(sample, size, views, work or "no work")
    runners = begin(docks, works(docks, sample)[work]) if work else []
    live(after)
    running = any(runner.busy for runner in runners)
    QApplication.instance().setQuitOnLastWindowClosed(False)
    workers, ended = QThreadPool.globalInstance(), []

    def watch() -> None:
        while workers.activeThreadCount():
            time.sleep(0.002)
        ended.append(time.time())

    watcher = threading.Thread(target=watch)
    closed = time.time()
    watcher.start()
    docks.viewer.window._qt_window.close()
    idle = rest() - closed
    watcher.join()
    return {
        "sample": sample, "work": work or "nothing", "after_s": after, "running": running, "work_ended_s": ended[0] - closed,
        "idle_s": idle, "closed": closed,
    }  # fmt: skip


def rest() -> float:
    """Let the process come to rest; the time, as of ``time.time``, at which it had begun to rest."""
    while True:
        now, begun, used = time.time(), time.perf_counter(), time.process_time()
        live(REST_S)
        if time.process_time() - used < REST_SHARE * (time.perf_counter() - begun):
            return now


if __name__ == "__main__":
    kinds: dict[str, Callable[..., Any]] = {
        "open": measure_open, "run": measure_run, "cancel": measure_cancel, "close": measure_close,
    }  # fmt: skip
    print(json.dumps(kinds[sys.argv[1]](**json.loads(sys.argv[2]))), flush=True)
