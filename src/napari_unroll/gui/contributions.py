"""What the manifest contributes beside docks: opening scans and volumes as layers, writing layers, sample data.

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

from napari_unroll.errors import ParameterError, UnrollError
from napari_unroll.gui import heavy
from napari_unroll.gui.images import scan_layers, stored_images, volume_images
from napari_unroll.gui.layers import RECORD, SCAN, STORED
from napari_unroll.gui.placement import ROLE, grid_of_arguments
from napari_unroll.scan.scan import Scan

LayerTuple = tuple[Any, dict[str, Any], str]


def scan_as_layers(scan: Scan) -> list[LayerTuple]:
    """The measurements of a scan as layer tuples that carry the scan."""
    tuples = []
    for layer in scan_layers(scan):
        layer.metadata.update({ROLE: "measurements", SCAN: scan})
        tuples.append(layer.as_layer_data_tuple())
    return tuples


def get_reader(path: str | Sequence[str]) -> Callable[[Any], list[LayerTuple]] | None:
    """napari asks whether a path is a scan or a volume that we read; by content, never by the suffix alone."""
    from napari_unroll.io import registry, writers

    if not isinstance(path, str):
        return None
    try:
        if writers.is_volume(path):
            return read_volume_layers
        registry.find_reader(Path(path))
    except (UnrollError, OSError):
        return None

    def read(opened: Any) -> list[LayerTuple]:
        with _waiting():
            return scan_as_layers(registry.look(Path(str(opened))))

    return read


def read_volume_layers(path: Any) -> list[LayerTuple]:
    """A volume as a layer in mm, complex ones as magnitude and phase; by its record the docks' session finds its scan.

    Large and growing ones are read from disk where they are looked at.
    """
    from napari_unroll.io import ome_zarr
    from napari_unroll.io.writers import is_large, read_volume

    place = Path(str(path))
    with _waiting():
        volume = ome_zarr.open_lazily(place) if is_large(place) else read_volume(place)
        if isinstance(volume, ome_zarr.StoredVolume):
            images = stored_images(place.name, volume)
        else:
            images = volume_images(place.name, volume.values, volume.grid)
    for image in images:
        image.metadata[ROLE] = "result"
    images[-1].metadata.update({RECORD: volume.record, **({STORED: str(path)} if volume.record else {})})
    return [image.as_layer_data_tuple() for image in images]


def write_volume(path: str, data: Any, arguments: dict[str, Any]) -> list[str]:
    """napari's writer of an image layer; the suffix decides the format, and .zarr is written as .ome.zarr."""
    from napari_unroll.io.writers import write

    place = Path(path)
    if place.suffix == ".zarr" and not place.name.endswith(".ome.zarr"):
        place = place.with_suffix(".ome.zarr")
    values = np.asarray(data[0] if arguments.get("multiscale") else data)
    if arguments.get("rgb") or values.ndim not in (2, 3):
        raise ParameterError(f"Volumes of two or three axes are written; the layer has shape {values.shape}.")
    grid = grid_of_arguments(values.shape, arguments)
    record = dict(arguments.get("metadata") or {}).get(RECORD, {})
    return [str(write(place, values.reshape(grid.shape), grid, record, overwrite=True))]


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
