"""Does the geometry fit the measured views? A quick reconstruction, projected again and laid over what was measured.

The rotation axis is searched for by moving the detector along its columns: each candidate reconstructs and projects anew, because a
wrong axis blurs a reconstruction rather than moving it. Every candidate works on few views and binned pixels. Knows no windows.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from napari_unroll.events import Event, Finished, Outcome, Progress, Started, Stop
from napari_unroll.interrupt import check, interruptible
from napari_unroll.physics import fdk, joseph
from napari_unroll.physics.pool import default_threads
from napari_unroll.physics.redundancy import missing_arc
from napari_unroll.pipeline.edits import CtGeometry, Edits, ct_geometry, edited, shifted
from napari_unroll.scan.geometry import ConeBeam, ParallelBeam, VolumeGrid
from napari_unroll.scan.preprocess_ct import bin_view
from napari_unroll.scan.scan import Scan


class Sizes(NamedTuple):
    """What a scan is reduced to at most: views, detector columns, and voxels along an edge."""

    views: int
    columns: int
    voxels: int


MOST = Sizes(views=60, columns=96, voxels=96)
"""What the check reduces a scan to."""
RANGE = 0.15
"""Largest shift that is looked for, of the detector's width."""
CLEARLY = 0.8
"""Of what is left unexplained: what another geometry may leave to be told of."""
LITTLE_RAD = 0.2
"""Of a scan that may be missing without much of a gap."""
STEADIER = 1 / 3
"""Of what the centre of mass leaves unexplained at the angles as they are: what it may leave at twice the range to be told of."""
UNTOLD = "Views cannot tell lengths that are all wrong by one factor, nor, of a parallel beam, pixel size and sense of rotation."
_N_STEPS = 12


@dataclass(frozen=True)
class GeometryCheck:
    """Measured views and their reprojections, and what they say about the geometry.

    ``measured`` and ``reprojected`` (view, row, column) are line integrals on pixels binned by ``binning``; ``views`` their
    numbers in the scan. ``correlation`` is the mean over views of Pearson's coefficient, ``residual`` is
    ‖measured − reprojected‖ / ‖measured‖. ``shift_px`` is by how many of the scan's columns the detector would have to be moved
    (see :func:`~napari_unroll.pipeline.edits.shifted`) for the best correlation, ``best_correlation``. ``reversed_`` tells that
    mirrored views fit clearly better, as they do when a cone-beam scan turned the other way. ``range_factor`` is by how much the
    range of the angles must be stretched to fit clearly better; 1 where it is right.
    """

    views: np.ndarray
    measured: np.ndarray
    reprojected: np.ndarray
    binning: int
    correlation: float
    residual: float
    shift_px: float
    best_correlation: float
    reversed_: bool = False
    range_factor: float = 1.0

    @property
    def tolerance_px(self) -> float:
        """How well the shift is known, in the scan's columns."""
        return max(0.5, 0.25 * self.binning)

    @property
    def axis_is_off(self) -> bool:
        """Whether another place of the axis fits better than the search can err, at angles that are right."""
        return abs(self.shift_px) > self.tolerance_px and self.range_factor == 1 and not self.reversed_

    @property
    def verdict(self) -> str:
        """One sentence for people."""
        if self.reversed_:
            return "The rotation seems to run the other way: mirrored views fit clearly better; reverse the angles."
        if self.range_factor != 1:
            times = "half" if self.range_factor < 1 else "twice"
            return f"The views seem to go over {times} the range that the angles say: they fit clearly better so."
        if self.best_correlation < 0.9:
            return "The reprojection hardly resembles the views: check angles, distances, pixel size and the volume."
        if self.axis_is_off:
            side = "lower" if self.shift_px > 0 else "higher"
            return (
                f"The rotation axis seems {abs(self.shift_px):.1f} px off, towards {side} columns "
                f"(correlation {self.best_correlation:.3f} instead of {self.correlation:.3f})."
            )
        return f"The geometry fits: the axis is right to within {self.tolerance_px:.1g} px. {UNTOLD}"


def with_axis(scan: Scan, check: GeometryCheck) -> Scan:
    """The scan with the axis where the check found it."""
    note = f"The rotation axis was corrected by {check.shift_px:.2f} columns after a geometry check."
    moved = edited(scan, Edits(axis_shift_px=check.shift_px))
    return replace(moved, notes=(*scan.notes, note))


def check_geometry(scan: Scan, stop: Stop | None = None) -> Iterator[Event]:
    """Reconstruct, reproject and search the axis; the result is a :class:`GeometryCheck`.

    Raises ScanError for scans without views, Cancelled or FinishNow when asked to stop.
    """
    yield from interruptible(_check(scan), stop or Stop())


def _check(scan: Scan) -> Iterator[Event]:
    yield Started("geometry check", _N_STEPS)
    views, small, binning = reduced(scan)
    search = _Search(small)
    best = yield from search.climb(RANGE * small.geometry.detector_shape[1])  # type: ignore[union-attr]
    here = _reproject(small)
    scale = float((here * small.measurements).sum() / max(float((here * here).sum()), 1e-30))
    here *= scale
    residual = np.linalg.norm(here - small.measurements) / max(float(np.linalg.norm(small.measurements)), 1e-30)
    found = GeometryCheck(
        views, small.measurements, here, binning, search.score(0.0), float(residual), best * binning, search.score(best),
        _is_reversed(small, search.score(best), best), _range_factor(small, search.score(best), best),
    )  # fmt: skip
    yield Finished(Outcome.COMPLETED, found, found.verdict)


def reduced(scan: Scan, grid: VolumeGrid | None = None, most: Sizes | None = None) -> tuple[np.ndarray, Scan, int]:
    """Numbers of the chosen views, the scan of those views on binned pixels and a coarser grid, and the binning.

    ``grid`` is the volume, the scan's own unless given.
    """
    most = most or MOST
    geometry = ct_geometry(scan)
    n_views, _, columns = geometry.measurement_shape
    views = np.unique(np.linspace(0, n_views - 1, min(n_views, most.views)).round().astype(int))
    binning = max(1, -(-columns // most.columns))
    binning = min(binning, min(geometry.detector_shape))
    measured = np.stack([_binned_view(scan, v, binning) for v in views])
    small = Scan(
        measurements=measured,
        geometry=_binned(geometry.subset(views), binning),
        grid=_coarse(grid or scan.grid, most.voxels),
        name=scan.name,
    )
    return views, small, binning


def _binned(geometry: CtGeometry, factor: int) -> CtGeometry:
    """The geometry of pixels binned from the detector's first corner; what fills no block is dropped at the end."""
    shape = tuple(n // factor for n in geometry.detector_shape)
    vectors = np.array(geometry.vectors)
    for axis, (n, kept) in zip((9, 6), zip(geometry.detector_shape, shape, strict=True), strict=True):
        vectors[:, 3:6] -= 0.5 * (n - kept * factor) * geometry.vectors[:, axis : axis + 3]
    vectors[:, 6:] *= factor
    return type(geometry)(vectors=vectors, detector_shape=shape)  # type: ignore[arg-type]


def _binned_view(scan: Scan, view: int, binning: int) -> np.ndarray:
    check()
    return np.asarray(bin_view(scan.measurements[view], binning), np.float32)


def _coarse(grid: VolumeGrid, n_voxels: int) -> VolumeGrid:
    factor = max(1.0, max(grid.shape) / n_voxels)
    return grid.resample(tuple(max(1, round(n / factor)) for n in grid.shape))  # type: ignore[arg-type]


def _reproject(scan: Scan) -> np.ndarray:
    """Projections (view, row, column) of the scan's filtered back-projection."""
    geometry, grid = ct_geometry(scan), scan.grid
    n_threads = default_threads()
    volume = fdk.reconstruct(scan.measurements, geometry, grid, "hann", n_threads)
    origin, spacing = np.array(grid.origin_mm), np.array(grid.spacing_mm)
    return joseph.forward(
        volume, geometry.vectors, isinstance(geometry, ConeBeam), origin, spacing, geometry.detector_shape, n_threads
    )


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Mean over views of Pearson's coefficient of two stacks (view, row, column)."""
    a, b = (x - x.mean(axis=(1, 2), keepdims=True) for x in (a, b))
    norms = np.sqrt((a * a).sum(axis=(1, 2)) * (b * b).sum(axis=(1, 2)))
    return float(((a * b).sum(axis=(1, 2)) / np.maximum(norms, 1e-30)).mean())


def _is_reversed(scan: Scan, best: float, shift: float) -> bool:
    """Whether mirrored views leave a fifth less unexplained; parallel beams cannot tell."""
    if not isinstance(scan.geometry, ConeBeam):
        return False
    mirrored = np.ascontiguousarray(scan.measurements[:, :, ::-1])
    turned = replace(scan, measurements=mirrored, geometry=shifted(scan.geometry, -shift))
    return 1 - correlation(mirrored, _reproject(turned)) < CLEARLY * (1 - best)


def _range_factor(scan: Scan, best: float, shift: float) -> float:
    """By how much the angles must be stretched for a fifth less to be left unexplained; 1 where neither half nor twice does so.

    Twice is not tried so where angles are missing, for views of any object fit better without that gap; of parallel beams the
    centre of mass tells then.
    """
    has_gap = missing_arc(ct_geometry(scan)) >= LITTLE_RAD
    if has_gap and _mass_turns_twice(scan):
        return 2.0
    factors = (0.5,) if has_gap else (0.5, 2.0)
    trials = {
        (factor, columns): replace(scan, geometry=stretched(shifted(ct_geometry(scan), columns), factor))
        for factor in factors
        for columns in {0.0, shift}
    }
    found = {trial: correlation(scan.measurements, _reproject(tried)) for trial, tried in trials.items()}
    likeliest = max(found, key=lambda trial: found[trial])
    return likeliest[0] if 1 - found[likeliest] < CLEARLY * (1 - best) else 1.0


def _mass_turns_twice(scan: Scan) -> bool:
    """Whether the centre of mass of parallel views goes round twice as fast as the angles say.

    It follows a + b cos θ + c sin θ for any object within the views (Helgason and Ludwig's condition of first order; Natterer,
    The Mathematics of Computerized Tomography, 1986, sec. II.4).
    """
    if not isinstance(scan.geometry, ParallelBeam):
        return False
    columns = scan.measurements.sum(axis=1, dtype=np.float64)
    mass, places = columns.sum(axis=1), np.arange(columns.shape[1]) - 0.5 * columns.shape[1]
    if not (mass > 0).all():
        return False
    centre, angles = columns @ places / mass, np.unwrap(scan.geometry.angles_rad)
    once, twice = (_unexplained(centre, factor * (angles - angles.mean())) for factor in (1, 2))
    return bool(twice < STEADIER * once)


def _unexplained(values: np.ndarray, angles: np.ndarray) -> float:
    """Norm of what a + b cos θ + c sin θ leaves of ``values`` (view,)."""
    waves = np.stack([np.ones_like(angles), np.cos(angles), np.sin(angles)], axis=1)
    return float(np.linalg.norm(values - waves @ np.linalg.lstsq(waves, values, rcond=None)[0]))


def stretched(geometry: CtGeometry, factor: float) -> CtGeometry:
    """Every view turned about z until its angle from the first is ``factor`` times what it was."""
    angles = np.unwrap(geometry.angles_rad)
    more = (factor - 1) * (angles - angles[0])[:, None]
    vectors = np.array(geometry.vectors)
    x, y = vectors[:, 0::3].copy(), vectors[:, 1::3].copy()
    vectors[:, 0::3], vectors[:, 1::3] = np.cos(more) * x - np.sin(more) * y, np.sin(more) * x + np.cos(more) * y
    return type(geometry)(vectors=vectors, detector_shape=geometry.detector_shape)


class _Search:
    """Climbs to the shift of best correlation: steps of two pixels, then one, then a parabola."""

    def __init__(self, scan: Scan) -> None:
        self._scan = scan
        self._known: dict[float, float] = {}

    def score(self, shift: float) -> float:
        """Correlation with the detector moved by ``shift`` binned columns."""
        if shift not in self._known:
            moved = replace(self._scan, geometry=shifted(ct_geometry(self._scan), shift))
            self._known[shift] = correlation(self._scan.measurements, _reproject(moved))
        return self._known[shift]

    def climb(self, farthest: float) -> Generator[Event, None, float]:
        """The best shift up to ``farthest`` either way."""
        at = 0.0
        for step in (2.0, 1.0):
            while True:
                around = [s for s in (at - step, at, at + step) if abs(s) <= max(farthest, 2.0)]
                for shift in around:
                    self.score(shift)
                    yield Progress(min(len(self._known), _N_STEPS), _N_STEPS, "looking for the rotation axis")
                best = max(around, key=self.score)
                if best == at:
                    break
                at = best
        return self._peak(at)

    def _peak(self, at: float) -> float:
        left, top, right = (self.score(at + d) for d in (-1.0, 0.0, 1.0))
        bend = left - 2 * top + right
        found = at + (0.5 * (left - right) / bend if bend < 0 else 0.0)
        return found if self.score(found) >= top else at
