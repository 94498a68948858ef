"""What the manifest contributes beside docks: opening scan files as layers, and sample data.

Returns napari layer tuples; the scan itself travels in their metadata, where the docks' session finds it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from napari_unroll.errors import UnrollError
from napari_unroll.gui.layers import ROLE, SCAN, scan_layers
from napari_unroll.io import registry
from napari_unroll.pipeline import sources
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
    """napari asks whether a path is a scan that we read; by content, never by the suffix alone."""
    if not isinstance(path, str):
        return None
    try:
        registry.find_reader(Path(path))
    except UnrollError:
        return None
    return lambda opened: scan_as_layers(registry.read(Path(str(opened))))


def cone_beam_sample() -> list[LayerTuple]:
    """A generated cone-beam scan with 50 views."""
    return scan_as_layers(sources.sample("cone-beam"))


def multicoil_sample() -> list[LayerTuple]:
    """Generated 3-D k-space of 8 coils, undersampled five times."""
    return scan_as_layers(sources.sample("multi-coil"))
