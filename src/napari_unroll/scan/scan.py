"""A scan: measurements, how they were taken, and where they came from.

Values only; no files, no devices.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any, Literal, TypeVar
from weakref import WeakKeyDictionary, WeakValueDictionary

import numpy as np

from napari_unroll.errors import ScanError, shortened
from napari_unroll.scan.blurring import BlurredSampling
from napari_unroll.scan.field_of_view import check_volume
from napari_unroll.scan.geometry import CartesianSampling, ConeBeam, ParallelBeam, VolumeGrid, fingerprint
from napari_unroll.scan.limits import LARGEST_VALUE
from napari_unroll.scan.trajectories import NonCartesianSampling

T = TypeVar("T")
Modality = Literal["ct", "mri", "image"]
Geometry = ConeBeam | ParallelBeam | CartesianSampling | NonCartesianSampling | BlurredSampling
MODALITIES: dict[Modality, str] = {"ct": "CT", "mri": "MRI", "image": "image"}
"""Every modality, as people write it."""
Origin = Literal["read", "given", "inferred", "assumed"]
"""Where a fact comes from: the file, an option, other facts or the measurements; or nothing, and it may be wrong."""
LONGEST_NAME = 255
"""Characters; names and notes may come from files, and reach terminals."""
AXES: dict[Modality, dict[int, str]] = {
    "ct": {3: "(view, row, column)"},
    "mri": {3: "(coil, shot, readout)", 4: "(coil, z, y, x)"},
    "image": {3: "(z, y, x)"},
}
"""Of measurements, by their number."""


def once_per_scan(function: Callable[[Scan], T]) -> Callable[[Scan], T]:
    """The same function, worked out once for every scan: scans never change, and plans ask the same of one at every edit."""
    known: WeakKeyDictionary[Scan, T] = WeakKeyDictionary()

    @wraps(function)
    def remembered(scan: Scan) -> T:
        if scan not in known:
            known[scan] = function(scan)
        return known[scan]

    return remembered


def once_per_array(holds: Callable[[np.ndarray], bool]) -> Callable[[np.ndarray], bool]:
    """The same question, asked once of every array of which it holds and that nobody can write.

    Copies of a scan on another grid or geometry share its arrays, which may be tens of GB in a file. Others may have changed
    meanwhile, such as those of layers.
    """
    known: WeakValueDictionary[int, np.ndarray] = WeakValueDictionary()

    @wraps(holds)
    def remembered(array: np.ndarray) -> bool:
        if array.flags.writeable:
            return holds(array)
        if known.get(id(array)) is not array and holds(array):
            known[id(array)] = array
        return known.get(id(array)) is array

    return remembered


@once_per_array
def _is_finite(array: np.ndarray) -> bool:
    return bool(np.isfinite(array).all())


@once_per_array
def _is_within_limits(measurements: np.ndarray) -> bool:
    return all((np.abs(part) <= LARGEST_VALUE).all() for part in measurements)


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where measurements came from: path or generator, format, SHA-256 of the input, and seed if generated.

    Of large inputs a part is hashed, see ``io.guards.file_hash``.
    ``options`` are the reader's options that were changed, as (name, value): with the path they repeat the reading.
    ``edits`` are what was changed of the scan since then, as (name, value).
    """

    source: str = ""
    format: str = ""
    sha256: str = ""
    seed: int | None = None
    options: tuple[tuple[str, str | int | float | bool], ...] = ()
    edits: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Scan:
    """What was measured.

    ``measurements``: CT float32 (view, row, column) line integrals, dimensionless; MRI complex64
    (coil, z, y, x) centred k-space, zero where not sampled, or (coil, shot, readout) along a trajectory; images
    float32 (z, y, x), blurred and perhaps downsampled.
    ``grid``: the volume to reconstruct; CT volumes are attenuation in 1/mm. ``csm``: complex64
    (coil, z, y, x) coil sensitivity maps or None (then they are estimated). ``truth``: the volume (z, y, x)
    where it is known. ``notes`` tell the user what was read, inferred or assumed; ``origins`` name the facts that
    were not read from the file, by the names of ``io.registry.summary``.

    Raises ScanError where the parts do not fit, hold NaN or infinity, or where no ray meets the volume.
    """

    measurements: np.ndarray
    geometry: Geometry
    grid: VolumeGrid
    csm: np.ndarray | None = None
    truth: np.ndarray | None = None
    name: str = "scan"
    provenance: Provenance = Provenance()
    notes: tuple[str, ...] = ()
    origins: tuple[tuple[str, Origin], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", shortened(self.name, LONGEST_NAME))
        object.__setattr__(self, "notes", tuple(shortened(note) for note in self.notes))
        self._check_measurements()
        if isinstance(self.geometry, (ConeBeam, ParallelBeam)):
            check_volume(self.geometry, self.grid)
        elif self.grid.shape != self.geometry.shape:
            measured = "The image" if self.modality == "image" else "k-space"
            raise ScanError(f"{measured} has grid {self.geometry.shape} but the volume grid is {self.grid.shape}.")
        maps = (self.measurements.shape[0], *self.grid.shape)
        if self.csm is not None and self.csm.shape != maps:
            raise ScanError(f"Coil maps must have the shape (coil, z, y, x) = {maps}; got {self.csm.shape}.")
        if self.csm is not None and not (_is_finite(self.csm) and np.any(self.csm)):
            raise ScanError("The coil maps hold NaN, infinity or only zeros; leave them out, and they are estimated.")
        if self.truth is not None and tuple(self.truth.shape) != self.grid.shape:
            raise ScanError(f"The truth has shape {self.truth.shape} but the grid is {self.grid.shape}.")
        if self.truth is not None and not _is_finite(self.truth):
            raise ScanError("The truth holds NaN or infinity; correct it, or leave it out.")

    def _check_measurements(self) -> None:
        m = self.measurements
        if tuple(m.shape) != tuple(self.geometry.measurement_shape):
            axes = AXES[self.modality][len(self.geometry.measurement_shape)]
            raise ScanError(
                f"The geometry expects measurements {axes} = {self.geometry.measurement_shape}; got {tuple(m.shape)}."
            )
        if m.dtype.kind not in ("c" if self.modality == "mri" else "biuf"):
            numbers = "complex" if self.modality == "mri" else "real"
            raise ScanError(
                f"The measurements must be {numbers} numbers; got type {m.dtype}. Is it another kind of scan?"
            )
        if not _is_within_limits(m):
            raise ScanError(
                f"The measurements hold NaN, infinity or values beyond {LARGEST_VALUE:g}; repair dead pixels, check the flat and "
                "dark fields, or scale them."
            )

    @property
    def modality(self) -> Modality:
        """``"ct"``, ``"mri"`` or ``"image"``."""
        if isinstance(self.geometry, BlurredSampling):
            return "image"
        return "mri" if isinstance(self.geometry, (CartesianSampling, NonCartesianSampling)) else "ct"

    @once_per_scan
    def fingerprint(self) -> str:
        """Hash of geometry, grid and coil maps: equal fingerprints share a normal operator."""
        parts = [self.geometry, self.grid]
        return fingerprint(*parts) if self.csm is None else fingerprint(*parts, self.csm)

    def with_grid(self, grid: VolumeGrid) -> Scan:
        """The same measurements on another volume grid; a truth that lies on another one is dropped."""
        return replace(self, grid=grid, truth=self.truth if grid == self.grid else None)

    def masked(self, mask: np.ndarray) -> Scan:
        """Only the samples of Cartesian k-space in a mask (z, y, x), which holds no others."""
        if not isinstance(self.geometry, CartesianSampling):
            raise ScanError("Only Cartesian k-space has samples to mask.")
        return replace(
            self,
            measurements=np.where(mask, self.measurements, np.complex64(0)),
            geometry=CartesianSampling(mask=mask, n_coils=self.geometry.n_coils),
        )

    def subset(self, views: slice | np.ndarray) -> Scan:
        """Only some views of a CT scan."""
        if not isinstance(self.geometry, (ConeBeam, ParallelBeam)):
            raise ScanError("Only CT scans have views to choose from.")
        return replace(
            self, measurements=np.ascontiguousarray(self.measurements[views]), geometry=self.geometry.subset(views)
        )
