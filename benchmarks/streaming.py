"""How long the window stands still while patches stream into a layer.

Patches of 64³ arrive at 30 per second from another thread in a volume of 256³ and one of 512³, shown in 2-D and in 3-D; a
1 ms heartbeat in the window's thread measures its gaps. Beside the plugin's layer, an ordinary ``refresh()`` per patch is
measured, in volumes of up to 256³.

    python benchmarks/streaming.py [--sizes 256 512] [--patch 64] [--seconds 6] [--json FILE]

Without a display run it under ``xvfb-run -a -s "-screen 0 1600x1000x24"``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import threading
import time
from pathlib import Path

import napari
import numpy as np
from qtpy.QtCore import QEventLoop, Qt, QTimer

from napari_unroll.gui.opengl import guard_removal, renderer
from napari_unroll.gui.streaming import Streamer, StreamImage
from napari_unroll.io.atomic import write_text

MOST_REFRESHED = 256
"""Edge up to which an ordinary refresh is measured; of larger volumes one takes minutes on software OpenGL."""


class Heartbeat:
    """Gaps between the ticks of a 1 ms timer in the window's thread, in milliseconds."""

    def __init__(self) -> None:
        self.gaps: list[float] = []
        self._last = time.perf_counter()
        self.timer = QTimer()
        self.timer.setTimerType(Qt.TimerType.PreciseTimer)
        self.timer.timeout.connect(self._beat)

    def _beat(self) -> None:
        now = time.perf_counter()
        self.gaps.append(1e3 * (now - self._last))
        self._last = now

    def start(self) -> None:
        """Forget earlier gaps."""
        self.gaps.clear()
        self._last = time.perf_counter()
        self.timer.start(1)


def wait(seconds: float) -> None:
    """Let the window live for a while."""
    loop = QEventLoop()
    QTimer.singleShot(int(1e3 * seconds), loop.quit)
    loop.exec()


def tiles(size: int, patch: int) -> list:
    """Boxes that cover a cube, those of the plane that is shown first."""
    cuts = [slice(i, i + patch) for i in range(0, size, patch)]
    from_the_middle = sorted(cuts, key=lambda cut: not cut.start <= size // 2 < cut.stop)
    return list(itertools.product(from_the_middle, cuts, cuts))


def feed(layer: StreamImage, boxes: list, rate: float, stop: threading.Event, posted: list) -> None:
    """Post random patches at ``rate`` per second until told to stop."""
    rng = np.random.default_rng(0)
    patch = rng.random(tuple(b.stop - b.start for b in boxes[0]), dtype=np.float32)
    while not stop.is_set():
        box = boxes[len(posted) % len(boxes)]
        layer.post(box, patch + np.float32(0.001 * (len(posted) % 7)))
        posted.append(box)
        stop.wait(1 / rate)


def measure(viewer: napari.Viewer, size: int, patch: int, seconds: float, ndisplay: int, how: str) -> dict:
    """One row: the gaps of the heartbeat while patches stream."""
    viewer.layers.clear()
    layer = viewer.add_layer(
        StreamImage(np.zeros((size,) * 3, np.float32), contrast_limits=(0, 1), rendering="attenuated_mip")
    )
    viewer.dims.ndisplay = ndisplay
    viewer.dims.set_point(0, size // 2)
    viewer.reset_view()
    streamer, naive, posted, stop = Streamer(), QTimer(), [], threading.Event()
    if how == "stream":
        streamer.add(layer)
    else:
        naive.timeout.connect(layer.refresh)
        naive.start(33)
    wait(1.5)
    thread = threading.Thread(target=feed, args=(layer, tiles(size, patch), 30, stop, posted))
    beat = Heartbeat()
    beat.start()
    thread.start()
    wait(seconds)
    gaps = np.array(beat.gaps)
    beat.timer.stop()
    stop.set()
    thread.join()
    naive.stop()
    streamer.finish(layer)
    blocked = gaps[gaps > 50].sum() / (1e3 * seconds)
    return {
        "size": size, "view": f"{ndisplay}-D", "how": how, "patches": len(posted), "largest_gap_ms": round(float(gaps.max()), 1),
        "p99_ms": round(float(np.percentile(gaps, 99)), 1), "blocked_percent": round(float(100 * blocked), 1), **layer.uploads,
    }  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=[256, 512], help="voxels along an edge")
    parser.add_argument("--patch", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    viewer = napari.Viewer()
    guard_removal(viewer)
    viewer.window.resize(1280, 800)
    rows = []
    for size, ndisplay in itertools.product(args.sizes, (2, 3)):
        for how in ("stream", "refresh") if size <= MOST_REFRESHED else ("stream",):
            rows.append(measure(viewer, size, args.patch, args.seconds, ndisplay, how))
            print(rows[-1], flush=True)
    print("OpenGL:", renderer())
    if args.json:
        write_text(args.json, json.dumps({"renderer": renderer(), "rows": rows}, indent=1))
    viewer.close()


if __name__ == "__main__":
    main()
