"""The imports that take seconds: PyTorch, deepinv and what of this package needs them, once and in a safe order.

Everything that docks, reader and samples import of the rooms left of the gui is named here, so that the window's
thread finds it loaded. Knows no Qt: any thread may load.
"""

from __future__ import annotations

import threading
from collections.abc import Generator
from importlib import import_module

from napari_unroll.events import Event, Progress, Started, result_of

STEPS: dict[str, tuple[str, ...]] = {
    "PyTorch": ("napari_unroll.gui.libraries_first", "torch"),
    "deepinv": ("deepinv",),
    "file formats": ("napari_unroll.io.registry", "napari_unroll.io.writers", "scipy.spatial"),
    "methods": (
        "napari_unroll.normal.effect",
        "napari_unroll.normal.inspect",
        "napari_unroll.normal.report",
        "napari_unroll.normal.swap",
        "napari_unroll.physics.samples",
        "napari_unroll.pipeline.away",
        "napari_unroll.pipeline.choose",
        "napari_unroll.pipeline.geometry_check",
        "napari_unroll.pipeline.geometry_sweep",
        "napari_unroll.pipeline.metrics",
        "napari_unroll.pipeline.provenance",
        "napari_unroll.pipeline.repeat",
        "napari_unroll.pipeline.run",
        "napari_unroll.pipeline.sources",
        "napari_unroll.shutdown",
        "napari_unroll.weights",
    ),
    "training": ("napari_unroll.training.session",),
}
"""What is loaded, in words → the modules, in the order in which they are imported."""

_ONE_AT_A_TIME = threading.Lock()


def importing() -> Generator[Event, None, None]:
    """Import everything, a step an event; waits while another thread does it, and is soon over where it is done."""
    with _ONE_AT_A_TIME:
        yield Started("loading", len(STEPS))
        for step, (what, modules) in enumerate(STEPS.items()):
            yield Progress(step, len(STEPS), what)
            for name in modules:
                import_module(name)


def load() -> None:
    """Import everything in this thread. Raises what the imports raise."""
    result_of(importing())
