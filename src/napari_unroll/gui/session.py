"""What the docks of one window share: the scan, its normal operator, the weights, and the runners.

Plain Qt signals; docks wire themselves to them and never to each other. Computes nothing, and keeps no result: its layer does.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.notifications import show_warning
from qtpy.compat import isalive
from qtpy.QtCore import QObject, Signal

from napari_unroll.events import Finished, Outcome
from napari_unroll.gui.garbage import SparedHeap
from napari_unroll.gui.layers import SCAN, STORED, LayerWriter
from napari_unroll.gui.preferences import follow
from napari_unroll.gui.worker import Run, Runner
from napari_unroll.scan.geometry import VolumeGrid
from napari_unroll.scan.scan import Scan
from napari_unroll.shutdown import end_quickly

if TYPE_CHECKING:
    from napari_unroll.io.ome_zarr import StoredLevel
    from napari_unroll.physics.volume_physics import VolumePhysics  # it would load torch with the window
    from napari_unroll.pipeline.repeat import Stored


@dataclass(frozen=True)
class Result:
    """A finished reconstruction and how it was made; large values are where its layer has them, on disk."""

    name: str
    values: np.ndarray | StoredLevel
    grid: VolumeGrid
    record: dict[str, Any]


class Session(QObject):
    """The state of one napari window."""

    scan_changed = Signal(object)
    factors_changed = Signal(object)
    result_added = Signal(object)
    layers_changed = Signal()
    weights_added = Signal()
    weights_chosen = Signal(str, str)
    choices_restored = Signal(object)

    def __init__(self, viewer: Any, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.viewer = viewer
        self.layers = LayerWriter(viewer)
        self.runner = Runner(self)
        self.training = Runner(self)  # of its own: another scan or a reconstruction must not end hours of training
        self.layers.streamer.setParent(self)
        self.scan: Scan | None = None
        self.physics: VolumePhysics | None = None
        self.factors: Any = None
        self.fit_options: Any = None
        self.weights: list[Path] = []
        viewer.layers.events.inserted.connect(self._on_inserted)
        for name in ("inserted", "removed", "renamed"):
            getattr(viewer.layers.events, name).connect(self._on_layers)
        end_quickly()
        follow()
        if parent is not None:
            SparedHeap(viewer, parent)
        for layer in viewer.layers:
            self._take_scan_of(layer)

    def _on_inserted(self, event: Any) -> None:
        if isalive(self):
            self._take_scan_of(event.value)

    def _on_layers(self, event: Any) -> None:
        if isalive(self):
            self.layers_changed.emit()

    def _take_scan_of(self, layer: Any) -> None:
        """A layer that carries a scan (opened file, sample data) makes it the present one."""
        scan = layer.metadata.get(SCAN)
        if isinstance(scan, Scan) and scan is not self.scan:
            self.set_scan(scan, show=False)
            self.layers.turn_to([layer])
        if STORED in layer.metadata:
            self.open_stored(Path(layer.metadata[STORED])).finished.connect(_tell_failure)

    def open_stored(self, path: Path) -> Run:
        """Read a stored result and its scan behind the window, and restore both with the choices."""
        from napari_unroll.gui import jobs  # loads torch, which docks have done by now

        run = self.runner.start(jobs.restore(path), f"reading {path.name}")
        run.finished.connect(lambda finished: self._on_stored(finished, path.name))
        return run

    def _on_stored(self, finished: Finished, name: str) -> None:
        if finished.result is not None:
            self.restore(finished.result, name)

    def set_scan(self, scan: Scan, show: bool = True) -> None:
        """A scan is loaded: earlier factors no longer apply; a run on the earlier scan is cancelled."""
        self.runner.cancel()
        self.scan, self.physics = scan, None
        if show:
            self.layers.show_scan(scan)
        self.scan_changed.emit(scan)
        self.set_factors(None)

    def scan_saved(self, scan: Scan) -> None:
        """The present scan is now in a file too; nothing else of it has changed."""
        self.scan = scan

    def restore(self, stored: Stored, name: str) -> None:
        """Show a stored result with its scan, and let the docks take its choices over."""
        self.set_scan(stored.scan)
        volume = stored.volume
        self.result_added.emit(Result(name, volume.values, volume.grid, volume.record))
        self.layers.turn_to(self.layers.show_volume(name, volume.values, volume.grid, role="result")[-1:])
        self.choices_restored.emit(stored.choices)

    def set_factors(self, factors: Any, options: Any = None) -> None:
        """The normal operator's approximation of the present scan and the FitOptions that made it, or None."""
        self.factors, self.fit_options = factors, options
        self.factors_changed.emit(factors)

    def add_weights(self, path: Path) -> None:
        """Trained weights exist: docks that choose weights list them."""
        if path not in self.weights:
            self.weights.append(path)
        self.weights_added.emit()

    def use_weights(self, path: Path, method: str) -> None:
        """The next reconstruction shall use these weights, which ``method`` was trained to."""
        self.add_weights(path)
        self.weights_chosen.emit(str(path), method)

    def free_name(self, name: str) -> str:
        """``name``, numbered if the viewer already has such a layer."""
        taken = {layer.name for layer in self.viewer.layers}
        if name not in taken:
            return name
        return next(f"{name} ({i})" for i in range(2, 10_000) if f"{name} ({i})" not in taken)


def _tell_failure(finished: Finished) -> None:
    """No dock may be open that could say why only the volume of a result is there."""
    if finished.outcome is Outcome.FAILED:
        show_warning(finished.advice)


def session_of(viewer: Any) -> Session:
    """The session of a viewer, made at the first call; it dies with the viewer's window."""
    viewer = getattr(viewer, "__wrapped__", viewer)  # napari hands plugins a proxy that hides the window
    window = getattr(getattr(viewer, "window", None), "_qt_window", None)
    owner = window if isinstance(window, QObject) else None
    if owner is not None:
        sessions: list[Session] = owner.findChildren(Session)
        return sessions[0] if sessions else Session(viewer, owner)
    found = _WINDOWLESS.get(id(viewer))
    if found is None or found.viewer is not viewer:
        found = _WINDOWLESS[id(viewer)] = Session(viewer)
    return found


_WINDOWLESS: dict[int, Session] = {}
