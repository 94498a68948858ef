"""What the manifest contributes beside docks: opening scan files as layers, and sample data.

Returns napari layer tuples; the scan itself travels in their metadata, where the docks' session finds it. Opening a
file loads the file formats only; samples are computed, so they load everything first, by the same way as the docks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication

from napari_unroll.errors import UnrollError
from napari_unroll.gui import heavy
from napari_unroll.gui.layers import ROLE, SCAN, STORED, grid_at, placement, scan_layers
from napari_unroll.scan.scan import Scan

LayerTuple = tuple[Any, dict[str, Any], str]


def scan_as_layers(scan: Scan) -> list[LayerTuple]:
    """The measurements of a scan as layer tuples that carry the scan."""
    tuples = []
    for layer in scan_layers(scan):
        layer.metadata.update({ROLE: "measurements", SCAN: scan})
        tuples.append(layer.as_layer_data_tuple())
    return tuples


def result_as_layer(path: Path) -> LayerTuple:
    """A stored result as a layer tuple, of a complex one its magnitude; the docks' session finds its scan."""
    from napari_unroll.io.writers import read_volume

    volume = read_volume(path)
    values = np.abs(volume.values) if np.iscomplexobj(volume.values) else volume.values
    metadata = {ROLE: "result", STORED: str(path), "provenance": volume.record}
    return values, {"name": path.name, "metadata": metadata, **placement(volume.grid)}, "image"


def write_result(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write a volume layer (z, y, x) with its place and the record of how it was made; raises UnrollError otherwise."""
    from napari_unroll.io.writers import write

    values = np.asarray(data)
    grid = grid_at(values.shape, meta["scale"], meta["translate"])
    return [str(write(path, values, grid, meta["metadata"].get("provenance"), overwrite=True))]


def get_reader(path: str | Sequence[str]) -> Callable[[Any], list[LayerTuple]] | None:
    """napari asks whether a path is a scan that we read; by content, never by the suffix alone."""
    from napari_unroll.io import registry, writers

    if not isinstance(path, str):
        return None
    if writers.is_result(path):
        return lambda opened: [result_as_layer(Path(str(opened)))]
    try:
        registry.find_reader(Path(path))
    except UnrollError:
        return None

    def read(opened: Any) -> list[LayerTuple]:
        with _waiting():
            return scan_as_layers(registry.read(Path(str(opened))))

    return read


def cone_beam_sample() -> list[LayerTuple]:
    """A generated cone-beam scan with 50 views."""
    return scan_as_layers(_sample("cone-beam"))


def multicoil_sample() -> list[LayerTuple]:
    """Generated 3-D k-space of 8 coils, undersampled five times."""
    return scan_as_layers(_sample("multi-coil"))


def deblur_sample() -> list[LayerTuple]:
    """A generated image, blurred by a 9 × 9 Gaussian."""
    return scan_as_layers(_sample("deblur"))


def super_resolution_sample() -> list[LayerTuple]:
    """A generated image, downsampled three times."""
    return scan_as_layers(_sample("super-resolution"))


def _sample(name: str) -> Scan:
    with _waiting():
        heavy.load()
        from napari_unroll.pipeline import sources

        return sources.sample(name)


@contextmanager
def _waiting() -> Iterator[None]:
    """napari waits for readers and samples in the window's thread: say so by the pointer."""
    if QApplication.instance() is None:
        yield
        return
    QApplication.setOverrideCursor(Qt.CursorShape.WaitCursor)
    try:
        yield
    finally:
        QApplication.restoreOverrideCursor()
