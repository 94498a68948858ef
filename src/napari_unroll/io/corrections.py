"""The corrections that a CT reader was asked for, on line integrals, and what the user is told of them.

In this order: scattered light, phase retrieval, stripes, beam hardening, on binned views; ``io/repairs.py`` comes before.
Stripes that vary are removed by algotom (N. T. Vo), of the extra ``formats``. Knows options and stacks; opens no files.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from napari_unroll.errors import MissingInformation, ParameterError
from napari_unroll.interrupt import stage
from napari_unroll.io.ct_options import CorrectionOptions
from napari_unroll.io.guards import rare
from napari_unroll.scan import corrections_ct
from napari_unroll.scan import preprocess_ct as ct
from napari_unroll.scan.geometry import ConeBeam, ParallelBeam
from napari_unroll.scan.hardening import estimated_hardening
from napari_unroll.scan.scan import Scan


@dataclass(frozen=True, kw_only=True)
class Optics:
    """What phase retrieval needs of a geometry: the detector's pixel, sample to detector, the magnification."""

    pixel_mm: float | None = None
    propagation_mm: float | None = None
    magnification: float = 1.0

    @classmethod
    def of_distances(cls, pixel_mm: float | None, distances: tuple[float, float] | None) -> Optics:
        """From source to axis and source to detector in mm; None for a parallel beam."""
        if distances is None:
            return cls(pixel_mm=pixel_mm)
        origin, detector = distances
        return cls(pixel_mm=pixel_mm, propagation_mm=detector - origin, magnification=detector / origin)

    def binned(self, factor: int) -> Optics:
        """With detector pixels of ``factor`` × ``factor``."""
        pixel = None if self.pixel_mm is None else self.pixel_mm * factor
        return Optics(pixel_mm=pixel, propagation_mm=self.propagation_mm, magnification=self.magnification)


def optics_of(geometry: ConeBeam | ParallelBeam) -> Optics:
    """The optics of a whole geometry."""
    pixel = geometry.pixel_mm[1]
    if isinstance(geometry, ParallelBeam):
        return Optics(pixel_mm=pixel)
    return Optics.of_distances(pixel, (geometry.source_origin_mm, geometry.source_detector_mm))


def correct(stack: np.ndarray, options: CorrectionOptions, optics: Optics, notes: list[str]) -> None:
    """Correct line integrals (view, row, column) float32 in place by what ``options`` ask for, and note it.

    Raises ParameterError or MissingInformation where a correction lacks what it needs, FileFormatError without algotom.
    """
    if options.scatter:
        _each_view(stack, "scatter", _on_transmission(lambda t: corrections_ct.without_scatter(t, options.scatter)))
        notes.append(f"Scattered light of {options.scatter:g} of the open beam subtracted.")
    if options.delta_beta:
        _phase(stack, options, optics, notes)
    if options.stripes != "off":
        _stripes(stack, options, notes)


def harden(stack: np.ndarray, geometry: ConeBeam | ParallelBeam, options: CorrectionOptions, notes: list[str]) -> None:
    """Correct line integrals (view, row, column) in place for the hardening of the beam, as given or as estimated, and note it.

    Raises ParameterError where both are asked for, ScanError where the views do not tell.
    """
    second, third = options.beam_hardening, options.beam_hardening_3
    if options.find_beam_hardening and (second or third):
        raise ParameterError(
            "Beam hardening is either given or found; set beam_hardening or find_beam_hardening, not both."
        )
    if options.find_beam_hardening:
        second = estimated_hardening(stack, geometry)
        notes.append("Beam hardening estimated: with this polynomial all views see the same mass best.")
    if second or third:
        _each_view(stack, "beam hardening", lambda p: corrections_ct.hardening_polynomial(p, second, third))
        notes.append(f"Beam hardening: p {second:+.5g} p² {third:+.5g} p³.")


SLAB = 16
"""Rows on either side of the sinogram that a preview corrects: phase retrieval looks at neighbours."""


def preview(
    scan: Scan, repaired: Scan, options: CorrectionOptions, *, row: int | None = None, view: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Before and after the corrections: the sinogram (view, column) of a row, or a view (row, column).

    ``scan`` was read without corrections, ``repaired`` with those only that come before binning; both stay as they are. The
    middle row where neither is given; a view needs the correction of all, a row only that of the rows around it, unless hardening
    is to be found.
    """
    stack = scan.measurements
    assert isinstance(scan.geometry, (ConeBeam, ParallelBeam))
    row = stack.shape[1] // 2 if row is None else row
    whole = view is not None or options.find_beam_hardening
    first = 0 if whole else max(0, row - SLAB)
    last = stack.shape[1] if whole else row + SLAB + 1
    corrected = np.array(repaired.measurements[:, first:last], np.float32)
    correct(corrected, options, optics_of(scan.geometry), [])
    harden(corrected, scan.geometry, options, [])
    if view is not None:
        return stack[view], corrected[view]
    return stack[:, row], corrected[:, row - first]


def _each_view(stack: np.ndarray, what: str, work: Callable[[np.ndarray], np.ndarray]) -> None:
    with stage(len(stack), f"correcting views: {what}") as done:
        for k, view in enumerate(stack):
            done(k)
            view[...] = work(view)


def _on_transmission(work: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """``work`` on exp(−p) instead of on p."""
    return lambda view: ct.minus_log(work(np.exp(-view)))


def _phase(stack: np.ndarray, options: CorrectionOptions, optics: Optics, notes: list[str]) -> None:
    distance = options.propagation_mm or optics.propagation_mm
    needs = {"energy_kev": options.energy_kev, "propagation_mm": distance, "pixel_mm": optics.pixel_mm}
    energy, distance, pixel = (_needed(name, value) for name, value in needs.items())
    wavelength = corrections_ct.HC_MM_KEV / energy
    length = np.pi * wavelength * distance / optics.magnification * options.delta_beta
    _each_view(
        stack, "phase", _on_transmission(lambda t: corrections_ct.paganin(t, length, pixel / optics.magnification))
    )
    notes.append(
        f"Paganin phase retrieval: δ/β {options.delta_beta:g}, {energy:g} keV, {distance:.6g} mm to the detector."
    )


def _needed(name: str, value: float | None) -> float:
    if value is None:
        raise MissingInformation(f"Phase retrieval (delta_beta) needs to know more; give option '{name}'.", name)
    return value


def _stripes(stack: np.ndarray, options: CorrectionOptions, notes: list[str]) -> None:
    work = _stripe_remover(options.stripes, options.stripe_size)
    n_views, n_rows, n_columns = stack.shape
    if min(n_views, n_columns) < 8:
        raise ParameterError(
            f"Stripes are removed from sinograms of at least 8 views and 8 columns; these have {n_views} and {n_columns}. "
            "Set option 'stripes' to off."
        )
    with stage(n_rows, "removing stripes") as done:
        for k in range(n_rows):
            done(k)
            stack[:, k] = work(np.ascontiguousarray(stack[:, k]))
    notes.append(f"Removed stripes of sinograms: {options.stripes}, window {options.stripe_size} columns.")


def _stripe_remover(kind: str, size: int) -> Callable[[np.ndarray], np.ndarray]:
    """A function of a sinogram. Sorting: N. T. Vo et al., Opt. Express 26 (2018) 28396, doi:10.1364/OE.26.028396."""
    if kind == "offset":
        return lambda sinogram: corrections_ct.without_offsets(sinogram, size)
    removal = rare("algotom.prep.removal", "Removing stripes")
    if kind == "sorting":
        return lambda sinogram: removal.remove_stripe_based_sorting(sinogram, size)
    return lambda sinogram: removal.remove_all_stripe(sinogram, la_size=3 * size, sm_size=size)
