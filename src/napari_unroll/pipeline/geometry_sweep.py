"""One plane of a scan, reconstructed for several places of the detector, for the eye to choose the sharpest.

A wrong axis doubles edges or draws them as arcs; a wrong height or turn does so away from the central plane. Knows no windows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from napari_unroll.errors import ParameterError
from napari_unroll.events import Event, Finished, Outcome, Progress, Started, Stop
from napari_unroll.interrupt import interruptible
from napari_unroll.physics import fdk
from napari_unroll.physics.pool import default_threads
from napari_unroll.pipeline.edits import Edits, ct_geometry, edited, moved
from napari_unroll.pipeline.geometry_check import Sizes, reduced
from napari_unroll.scan.geometry import VolumeGrid
from napari_unroll.scan.scan import Scan

MOST = Sizes(views=180, columns=256, voxels=192)
"""To which a scan is reduced."""


@dataclass(frozen=True)
class Quantity:
    """A field of :class:`Edits` that is tried: name, unit, step between two trials; whether trials show the same plane."""

    field: str
    title: str
    unit: str
    step: float
    keeps_plane: bool = True


QUANTITIES = (
    Quantity("axis_shift_px", "Rotation axis", "px", 1.0),
    Quantity("row_shift_px", "Detector height", "px", 2.0, keeps_plane=False),
    Quantity("turn_deg", "Detector turn", "°", 0.5),
    Quantity("tilt_deg", "Tilt of the axis", "°", 0.5),
)


@dataclass(frozen=True)
class GeometrySweep:
    """Slices (trial, y, x) of one plane for ``offsets`` of a quantity; ``grid`` is where they lie.

    ``contrasts`` are their mean squares over their squared means, which doubled and smeared edges lower.
    """

    quantity: Quantity
    offsets: tuple[float, ...]
    slices: np.ndarray
    contrasts: tuple[float, ...]
    grid: VolumeGrid

    @property
    def best(self) -> int | None:
        """The trial of the largest contrast; None where trials show different planes, which cannot be compared."""
        return int(np.argmax(self.contrasts)) if self.quantity.keeps_plane else None


def offsets_around(quantity: Quantity, step: float, n: int = 9) -> tuple[float, ...]:
    """``n`` trials ``step`` apart, the present place in their middle. Raises ParameterError for no step at all."""
    if not step > 0:
        raise ParameterError(f"Expected a step larger than 0 {quantity.unit}; got {step:g}.")
    return tuple(step * (k - n // 2) for k in range(n))


def sweep(
    scan: Scan, quantity: Quantity, offsets: Sequence[float], plane: float = 0.5, stop: Stop | None = None
) -> Iterator[Event]:
    """Reconstruct the plane at the part ``plane`` of the volume's height for every offset; the result is a GeometrySweep.

    Raises ScanError for scans without views.
    """
    yield from interruptible(_sweep(scan, quantity, tuple(offsets), plane), stop or Stop())


def _sweep(scan: Scan, quantity: Quantity, offsets: tuple[float, ...], plane: float) -> Iterator[Event]:
    yield Started(f"trying places: {quantity.title.lower()}", len(offsets))
    _, small, binning = reduced(scan, most=MOST)
    n_planes, rows, columns = small.grid.shape
    z = int(np.clip(round(plane * (n_planes - 1)), 0, n_planes - 1))
    grid = small.grid.restrict((slice(z, z + 1), slice(0, rows), slice(0, columns)))
    per_pixel = binning if quantity.unit == "px" else 1
    slices = []
    for k, offset in enumerate(offsets):
        geometry = moved(ct_geometry(small), Edits(**{quantity.field: offset / per_pixel}))
        slices.append(fdk.reconstruct(small.measurements.copy(), geometry, grid, "hann", default_threads())[0])
        yield Progress(k + 1, len(offsets), f"{quantity.title.lower()} {offset:+g} {quantity.unit}")
    found = np.stack(slices)
    contrasts = tuple(float((s * s).mean() / max(float(s.mean()) ** 2, 1e-30)) for s in found)
    yield Finished(Outcome.COMPLETED, GeometrySweep(quantity, offsets, found, contrasts, grid))


def with_offset(scan: Scan, found: GeometrySweep, trial: int) -> Scan:
    """The scan with the detector where a trial had it."""
    quantity, offset = found.quantity, found.offsets[trial]
    note = f"{quantity.title} changed by {offset:+g} {quantity.unit} after a look at slices."
    return replace(edited(scan, Edits(**{quantity.field: offset})), notes=(*scan.notes, note))
