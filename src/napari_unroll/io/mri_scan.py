"""What the readers of k-space share: its options, and the way from samples on a lattice to a Scan.

Slices that were measured alike become one volume: an orthonormal Fourier transform across them makes their k-space a
three-dimensional one, sampled in full along z. It knows no file formats.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import scipy.fft
from pydantic import Field

from napari_unroll.errors import FileFormatError, MissingInformation, ParameterError
from napari_unroll.interrupt import check
from napari_unroll.io.espirit import espirit_maps
from napari_unroll.io.guards import check_memory
from napari_unroll.io.reader import ReaderOptions
from napari_unroll.record import LARGEST_SEED
from napari_unroll.scan.geometry import CartesianSampling, VolumeGrid
from napari_unroll.scan.limits import MOST, is_length
from napari_unroll.scan.preprocess_mri import coil_axes, estimate_csm, in_axes
from napari_unroll.scan.retrospective import line_mask, undersampled
from napari_unroll.scan.sampling_masks import poisson_disc_mask, random_mask
from napari_unroll.scan.scan import Scan


class CoilOptions(ReaderOptions):
    """What may be asked of every multi-coil scan."""

    virtual_coils: int | None = Field(
        default=None, ge=1, le=MOST, description="Compress the coils to so many virtual ones (SVD); empty: keep all."
    )


class CartesianOptions(CoilOptions):
    """What may be asked of every Cartesian scan."""

    coil_maps: Literal["smooth", "espirit"] = Field(
        default="smooth",
        description="How coil maps are estimated where none are given: by smooth coil images, or by ESPIRiT (needs bartorch).",
    )
    undersample: float = Field(
        default=1, ge=1, le=1000, description="Acceleration of a retrospective undersampling of full k-space; 1: none."
    )
    pattern: Literal["poisson-disc", "variable-density", "lines-y", "lines-x"] = Field(
        default="poisson-disc",
        description="What 'undersample' keeps: a Poisson disc, or samples drawn at random, denser in the middle, where k-space is "
        "phase-encoded; or whole lines, along y or x.",
    )
    calibration: int = Field(
        default=16,
        ge=0,
        le=MOST,
        description="Radius in samples of the middle of k-space that 'undersample' keeps whole.",
    )
    seed: int = Field(default=0, ge=0, le=LARGEST_SEED, description="Of the pattern of 'undersample'.")


class SliceOptions(CartesianOptions):
    """What may be asked of stacks of slices."""

    slice: int | None = Field(
        default=None, ge=0, le=MOST, description="Read only this slice, counted from 0; empty: the volume of all."
    )


def choice(name: str, chosen: int | None, n: int) -> int | None:
    """A chosen index along an axis of ``n``. Raises ParameterError beyond it."""
    if chosen is not None and chosen >= n:
        raise ParameterError(f"There is no {name} {chosen}: the file holds {n}, counted from 0. Set option {name!r}.")
    return chosen


def one_volume(kspace: np.ndarray, mask: np.ndarray, notes: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """k-space (coil, z, y, x) and mask (z, y, x) of slices or slabs (slice, coil, z, y, x) and (slice, z, y, x).

    Slices with one mask are transformed across; MissingInformation asks for one slice of those that no volume can hold.
    """
    if len(kspace) == 1:
        return kspace[0], mask[0]
    if kspace.shape[2] > 1:
        raise MissingInformation(
            f"The file holds {len(kspace)} slabs, each a volume; choose one by option 'slice'.", "slice"
        )
    if (mask != mask[:1]).any():
        raise MissingInformation(
            f"The {len(kspace)} slices were sampled differently, so that no one volume holds them; choose one by option "
            "'slice'.",
            "slice",
        )
    notes.append(f"{len(kspace)} slices as one volume, transformed across the slices.")
    return across_slices(np.moveaxis(kspace[:, :, 0], 0, 1)), np.repeat(mask[0], len(kspace), axis=0)


def across_slices(kspace: np.ndarray) -> np.ndarray:
    """The centred orthonormal FFT of (coil, slice, y, x) along the slices, in place where it can be."""
    out = np.empty(kspace.shape, np.complex64)
    for k, coil in enumerate(kspace):
        check()
        out[k] = centred(scipy.fft.fft, coil, 0)
    return out


def without_oversampling(
    kspace: np.ndarray, mask: np.ndarray, keep: int, axis: int, notes: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """k-space (…, z, y, x) and mask (…, z, y, x) of the middle ``keep`` voxels along ``axis``, −1 … −3, the readout.

    Where the readout was not sampled from end to end, as in partial echoes, all is returned: only a full readout can be
    filtered exactly.
    """
    n = kspace.shape[axis]
    if not 0 < keep < n:
        return kspace, mask
    line = mask.any(axis, keepdims=True)
    if (line != mask).any():
        notes.append("The readout is not sampled from end to end, so its oversampling is kept.")
        return kspace, mask
    shape, first = list(kspace.shape), n // 2 - keep // 2
    shape[axis] = keep
    out = np.empty(shape, np.complex64)
    for k, part in enumerate(kspace):
        check()
        image = np.take(centred(scipy.fft.ifft, part, axis), np.arange(first, first + keep), axis)
        out[k] = centred(scipy.fft.fft, image, axis)
    notes.append(f"Readout oversampling removed: {keep} of {n} voxels.")
    return out, np.repeat(line, keep, axis)


def centred(transform: object, values: np.ndarray, axis: int) -> np.ndarray:
    """An orthonormal transform of scipy.fft along one axis, both middles at index n // 2."""
    turned = transform(scipy.fft.ifftshift(values, axes=axis), axis=axis, norm="ortho")  # type: ignore[operator]
    return np.asarray(scipy.fft.fftshift(turned, axes=axis))


def lengths_or_none(*values: float) -> tuple[float, ...] | None:
    """Voxel sizes in mm where all of them can be; None where a file does not hold them."""
    return values if all(is_length(v) for v in values) else None


def cartesian_scan(
    name: str,
    kspace: np.ndarray,
    mask: np.ndarray,
    spacing_mm: tuple[float, ...] | None,
    csm: np.ndarray | None,
    options: CartesianOptions,
    notes: list[str],
    readout: int = 2,
) -> Scan:
    """The scan of centred ``kspace`` (coil, z, y, x) sampled where ``mask`` (z, y, x) is, as the options want it.

    ``readout`` is the axis of the readout, along which 'undersample' leaves out nothing in a volume.
    """
    if not mask.any():
        raise FileFormatError(f"{name} holds only zeros; there is no sample to reconstruct from.")
    if spacing_mm is None:
        notes.append("No voxel size known: 1 mm assumed.")
    if csm is not None or options.coil_maps == "smooth":
        notes.append("No coil maps; they are estimated from k-space." if csm is None else "Coil maps given.")
    scan = Scan(
        measurements=np.where(mask, kspace, np.complex64(0)),
        geometry=CartesianSampling(mask=mask, n_coils=len(kspace)),
        grid=VolumeGrid(shape=mask.shape, spacing_mm=spacing_mm or (1.0, 1.0, 1.0)),  # type: ignore[arg-type]
        csm=csm,
        name=name,
        notes=tuple(notes),
        origins=() if spacing_mm is not None else (("voxel mm", "assumed"),),
    )
    return _mapped(retrospective(compressed(scan, options), options, readout), options)


def _mapped(scan: Scan, options: CartesianOptions) -> Scan:
    """The scan with maps by ESPIRiT, where those are asked for and none are given."""
    if options.coil_maps == "smooth" or scan.csm is not None:
        return scan
    maps = espirit_maps(scan.measurements, scan.geometry.mask)  # type: ignore[union-attr]
    origins = (*scan.origins, ("coil maps", "inferred"))
    return replace(scan, csm=maps, origins=origins, notes=(*scan.notes, "Coil maps by ESPIRiT (bartorch)."))


def compressed(scan: Scan, options: CoilOptions) -> Scan:
    """The scan with its virtual coils, where there are more coils than asked for."""
    n, y = options.virtual_coils, scan.measurements
    if n is None or n >= len(y):
        return scan
    check_memory(2 * n * y[0].nbytes, "the virtual coils")
    axes = coil_axes(y, n)
    kept = in_axes(y, axes)
    share = float(np.linalg.norm(kept) / np.linalg.norm(y)) ** 2
    note = f"{len(y)} coils compressed to {n} virtual coils, which hold {100 * share:.4g} % of the energy."
    return replace(
        scan,
        measurements=kept,
        geometry=replace(scan.geometry, n_coils=n),  # type: ignore[arg-type]
        csm=None if scan.csm is None else in_axes(scan.csm, axes),
        notes=(*scan.notes, note),
    )


def retrospective(scan: Scan, options: CartesianOptions, readout: int = 2) -> Scan:
    """The scan undersampled as the options want it, with the image of all samples as its truth."""
    if options.undersample == 1:
        return scan
    maps = espirit_maps if options.coil_maps == "espirit" else estimate_csm
    made = undersampled(scan, _pattern(scan.grid.shape, options, readout), maps)
    note = (
        f"Undersampled retrospectively, {options.pattern}, to 1 in {made.geometry.acceleration:.3g}; "  # type: ignore[union-attr]
        "the truth is the coil-combined image of all samples."
    )
    return replace(made, notes=(*made.notes, note))


def _pattern(shape: tuple[int, int, int], options: CartesianOptions, readout: int) -> np.ndarray:
    """A mask (z, y, x), the axes that it does not change along of length 1."""
    if options.pattern in ("lines-y", "lines-x"):
        axis = 1 if options.pattern == "lines-y" else 2
        lines = line_mask((shape[axis], 1), options.undersample, 2 * options.calibration, options.seed)
        return lines.reshape([-1 if a == axis else 1 for a in range(3)])
    whole = 0 if shape[0] == 1 else readout
    plane = [n for a, n in enumerate(shape) if a != whole]
    make = poisson_disc_mask if options.pattern == "poisson-disc" else random_mask
    return np.expand_dims(make((plane[0], plane[1]), options.undersample, options.calibration, options.seed), whole)
