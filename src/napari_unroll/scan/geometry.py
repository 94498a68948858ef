"""Geometries as values: what the scanner did, in millimetres and radians.

Frozen, comparable with a tolerance, with a ``repr`` that rebuilds them. Sane by construction: what passes here is finite
and within ``scan.limits``; everything else raises ScanError. No computation on devices, no files. Vectors are in ASTRA's
order (x, y, z); array axes and grid tuples are (z, y, x).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from napari_unroll.errors import ScanError
from napari_unroll.events import Box
from napari_unroll.scan import limits
from napari_unroll.scan.limits import GRAZING, LONGEST_MM, SHORTEST_MM


@dataclass(frozen=True, kw_only=True)
class VolumeGrid:
    """A regular grid of voxels, axes (z, y, x).

    ``shape`` counts voxels, ``spacing_mm`` is the size of a voxel, ``center_mm`` the position of
    the grid's centre relative to the rotation axis (CT) or isocentre (MRI).

    Raises ScanError unless counts and voxel sizes are within the limits and the grid reaches no further than
    ``LONGEST_MM`` from that axis or isocentre.
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)
    center_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", limits.counts(self.shape, 3, "The sizes (z, y, x) of a volume grid"))
        object.__setattr__(self, "spacing_mm", limits.lengths(self.spacing_mm, 3, "Voxel sizes (z, y, x)"))
        object.__setattr__(
            self, "center_mm", limits.positions(self.center_mm, 3, "The centre (z, y, x) of a volume grid")
        )
        reach = max(abs(c) + 0.5 * e for c, e in zip(self.center_mm, self.size_mm, strict=True))
        if reach > LONGEST_MM:
            raise ScanError(
                f"A volume grid must lie within {LONGEST_MM:g} mm of the axis; this one reaches to {reach:g} mm. "
                "Check the voxel size and its unit."
            )

    @property
    def size_mm(self) -> tuple[float, float, float]:
        """Extent (z, y, x) in mm."""
        return tuple(n * s for n, s in zip(self.shape, self.spacing_mm, strict=True))  # type: ignore[return-value]

    @property
    def origin_mm(self) -> tuple[float, float, float]:
        """Position (z, y, x) of the centre of voxel (0, 0, 0)."""
        return tuple(  # type: ignore[return-value]
            c - 0.5 * (n - 1) * s for c, n, s in zip(self.center_mm, self.shape, self.spacing_mm, strict=True)
        )

    def restrict(self, box: Box) -> VolumeGrid:
        """The grid of the patch ``box``: a smaller grid with another centre."""
        shape = tuple(b.stop - b.start for b in box)
        center = tuple(
            o + s * (b.start + 0.5 * (b.stop - b.start - 1))
            for o, s, b in zip(self.origin_mm, self.spacing_mm, box, strict=True)
        )
        return VolumeGrid(shape=shape, spacing_mm=self.spacing_mm, center_mm=center)

    def resample(self, shape: tuple[int, int, int]) -> VolumeGrid:
        """The same extent cut into ``shape`` voxels."""
        spacing = tuple(e / n for e, n in zip(self.size_mm, shape, strict=True))
        return VolumeGrid(shape=shape, spacing_mm=spacing, center_mm=self.center_mm)  # type: ignore[arg-type]


class _Value:
    """Equality with tolerance and a rebuilding ``repr`` for records that hold arrays."""

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        for f in fields(self):  # type: ignore[arg-type]
            mine, theirs = np.asarray(getattr(self, f.name)), np.asarray(getattr(other, f.name))
            if mine.shape != theirs.shape or not np.allclose(mine, theirs, rtol=1e-6, atol=1e-9):
                return False
        return True

    def __hash__(self) -> int:
        return hash((type(self).__name__, tuple(np.shape(getattr(self, f.name)) for f in fields(self))))  # type: ignore[arg-type]

    def __repr__(self) -> str:
        parts = []
        for f in fields(self):  # type: ignore[arg-type]
            value = getattr(self, f.name)
            parts.append(f"{f.name}={value.tolist() if isinstance(value, np.ndarray) else value!r}")
        return f"{type(self).__name__}({', '.join(parts)})"


def _checked_vectors(vectors: Any) -> np.ndarray:
    """Vectors (view, 12), float64 and read-only: within the limits, with two detector axes that span a plane."""
    v = np.array(vectors, dtype=np.float64)
    if v.ndim != 2 or v.shape[1] != 12 or not 1 <= v.shape[0] <= limits.MOST:
        raise ScanError(f"Projection vectors need one row of 12 numbers per view; got an array of shape {v.shape}.")
    sound = np.asarray((np.abs(v) <= LONGEST_MM).all(axis=1))
    _refuse(~sound, f"hold NaN, infinity or lengths beyond {LONGEST_MM:g} mm")
    pitch = np.linalg.norm(v[:, 6:].reshape(-1, 2, 3), axis=2)
    _refuse(pitch.min(axis=1) < SHORTEST_MM, "have a detector axis without length; u and v carry the pixel pitch in mm")
    area = np.linalg.norm(_normals(v), axis=1)
    _refuse(area < GRAZING * pitch.prod(axis=1), "have detector axes u and v that are parallel; they span the detector")
    v.setflags(write=False)
    return v


def _normals(vectors: np.ndarray) -> np.ndarray:
    """u × v per view, (view, 3)."""
    return np.cross(vectors[:, 6:9], vectors[:, 9:12])


def _refuse(wrong: np.ndarray, why: str) -> None:
    if wrong.any():
        raise ScanError(f"The projection vectors of view {wrong.argmax()} {why}. Check the geometry and its unit.")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class _Vectors(_Value):
    vectors: np.ndarray
    detector_shape: tuple[int, int]

    def __post_init__(self) -> None:
        object.__setattr__(self, "vectors", _checked_vectors(self.vectors))
        shape = limits.counts(self.detector_shape, 2, "The detector's (rows, columns)")
        object.__setattr__(self, "detector_shape", shape)
        rays, normals = self.central_rays, _normals(self.vectors)
        lengths = np.linalg.norm(rays, axis=1)
        _refuse(lengths < SHORTEST_MM, "have a ray to the detector's centre without length")
        across = np.abs((rays * normals).sum(1))
        _refuse(across < GRAZING * lengths * np.linalg.norm(normals, axis=1), "have rays that run along the detector")

    @property
    def central_rays(self) -> np.ndarray:
        """Ray through the detector's centre per view, (view, 3) in x, y, z; of any length."""
        raise NotImplementedError

    @property
    def n_views(self) -> int:
        """Number of views."""
        return int(self.vectors.shape[0])

    @property
    def measurement_shape(self) -> tuple[int, int, int]:
        """(view, row, column)."""
        return (self.n_views, *self.detector_shape)

    @property
    def pixel_mm(self) -> tuple[float, float]:
        """Detector pixel pitch (row direction v, column direction u) of the first view."""
        v = self.vectors[0]
        return float(np.linalg.norm(v[9:12])), float(np.linalg.norm(v[6:9]))

    def subset(self, views: Any) -> Any:
        """The same geometry with only ``views`` (indices or a slice)."""
        return type(self)(vectors=self.vectors[views], detector_shape=self.detector_shape)


Pair = tuple[float, float]


def _checked_orbit(angles_rad: Any, pixel_mm: Any, offset_mm: Any) -> tuple[np.ndarray, Pair, Pair]:
    """Angles (view,), pixel pitch and detector offset (v, u) of a circular orbit, within the limits."""
    pixel = limits.lengths(pixel_mm, 2, "Pixel pitches (v, u)")
    offset = limits.positions(offset_mm, 2, "The detector's offset (v, u)")
    return limits.angles(angles_rad), pixel, offset  # type: ignore[return-value]


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ConeBeam(_Vectors):
    """Cone beam: per view (ASTRA ``cone_vec``) source, detector centre, u, v as x, y, z in mm.

    ``vectors`` (view, 12); u points from pixel (0, 0) to (0, 1), v from (0, 0) to (1, 0), and both carry
    the pixel pitch. ``detector_shape`` is (rows, columns).

    Raises ScanError also where all sources lie on the rotation axis.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.source_origin_mm < SHORTEST_MM:
            raise ScanError(
                f"Expected sources beside the rotation axis z; their mean distance is {self.source_origin_mm:g} mm, so the "
                "magnification is not finite. Check the projection vectors and their order x, y, z."
            )

    @classmethod
    def circular(
        cls,
        *,
        angles_rad: Any,
        source_origin_mm: float,
        source_detector_mm: float,
        detector_shape: tuple[int, int],
        pixel_mm: tuple[float, float],
        detector_offset_mm: tuple[float, float] = (0.0, 0.0),
    ) -> ConeBeam:
        """A circular orbit about z.

        ``pixel_mm`` and ``detector_offset_mm`` are (row direction v, column direction u). Angle 0 puts the
        source at (0, −source_origin, 0), as ASTRA's ``cone`` does.
        """
        if not SHORTEST_MM <= source_origin_mm < source_detector_mm <= LONGEST_MM:
            raise ScanError(
                f"Expected source-origin < source-detector distance, both from {SHORTEST_MM:g} to {LONGEST_MM:g} mm; got "
                f"{source_origin_mm:g} mm and {source_detector_mm:g} mm. Were they exchanged?"
            )
        a, pixel_mm, detector_offset_mm = _checked_orbit(angles_rad, pixel_mm, detector_offset_mm)
        s, c, zero = np.sin(a), np.cos(a), np.zeros_like(a)
        dist = source_detector_mm - source_origin_mm
        dv, du = detector_offset_mm
        vectors = np.stack(
            [
                s * source_origin_mm, -c * source_origin_mm, zero,
                -s * dist + c * du, c * dist + s * du, zero + dv,
                c * pixel_mm[1], s * pixel_mm[1], zero,
                zero, zero, zero + pixel_mm[0],
            ],
            axis=1,
        )  # fmt: skip
        return cls(vectors=vectors, detector_shape=detector_shape)

    @property
    def central_rays(self) -> np.ndarray:
        """Source to detector centre per view."""
        return self.vectors[:, 3:6] - self.vectors[:, :3]

    @property
    def source_origin_mm(self) -> float:
        """Mean distance from the source to the rotation axis (z)."""
        return float(np.linalg.norm(self.vectors[:, :2], axis=1).mean())

    @property
    def source_detector_mm(self) -> float:
        """Mean distance from the source to the detector plane."""
        normal = _normals(self.vectors)
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        return float(np.abs((self.central_rays * normal).sum(1)).mean())

    @property
    def angles_rad(self) -> np.ndarray:
        """Angle of the source about z per view, in the convention of :meth:`circular`."""
        return np.arctan2(self.vectors[:, 0], -self.vectors[:, 1])


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ParallelBeam(_Vectors):
    """3-D parallel beam: per view (ASTRA ``parallel3d_vec``) ray direction, detector centre, u, v.

    ``vectors`` (view, 12), x, y, z, mm except the direction; ``detector_shape`` is (rows, columns).
    """

    @classmethod
    def circular(
        cls,
        *,
        angles_rad: Any,
        detector_shape: tuple[int, int],
        pixel_mm: tuple[float, float] = (1.0, 1.0),
        detector_offset_mm: tuple[float, float] = (0.0, 0.0),
    ) -> ParallelBeam:
        """Rotation about z.

        ``detector_offset_mm`` (v, u) moves the detector; a rotation axis at column ``c`` needs
        u = ((columns − 1) / 2 − c) · pixel. Angle 0 looks along +y, as ASTRA's ``parallel3d``.
        """
        a, pixel_mm, detector_offset_mm = _checked_orbit(angles_rad, pixel_mm, detector_offset_mm)
        s, c, zero = np.sin(a), np.cos(a), np.zeros_like(a)
        dv, du = detector_offset_mm
        vectors = np.stack(
            [s, -c, zero, c * du, s * du, zero + dv, c * pixel_mm[1], s * pixel_mm[1], zero, zero, zero, zero + pixel_mm[0]],
            axis=1,
        )  # fmt: skip
        return cls(vectors=vectors, detector_shape=detector_shape)

    @property
    def central_rays(self) -> np.ndarray:
        """The rays' direction per view."""
        return self.vectors[:, :3]

    @property
    def angles_rad(self) -> np.ndarray:
        """Angle of the ray direction about z per view, in the convention of :meth:`circular`."""
        return np.arctan2(self.vectors[:, 0], -self.vectors[:, 1])


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class CartesianSampling(_Value):
    """Cartesian k-space: which samples of the centred grid were measured.

    ``mask`` bool (z, y, x), broadcast to ``shape``; axes follow the image (z, y, x), k = 0 at index n // 2.
    """

    mask: np.ndarray
    n_coils: int

    def __post_init__(self) -> None:
        mask = np.array(self.mask, dtype=bool)
        if mask.ndim != 3 or not mask.any():
            raise ScanError(
                "A sampling mask needs axes (z, y, x) and at least one sample; "
                f"got shape {mask.shape} with {int(mask.sum())} samples. Give the mask of this scan."
            )
        mask.setflags(write=False)
        object.__setattr__(self, "mask", mask)
        object.__setattr__(self, "n_coils", limits.counts([self.n_coils], 1, "The number of coils")[0])

    @property
    def shape(self) -> tuple[int, int, int]:
        """Grid (z, y, x)."""
        return self.mask.shape

    @property
    def measurement_shape(self) -> tuple[int, int, int, int]:
        """(coil, z, y, x)."""
        return (self.n_coils, *self.shape)

    @property
    def acceleration(self) -> float:
        """Grid points per sample."""
        return float(self.mask.size / self.mask.sum())

    def __repr__(self) -> str:
        return f"CartesianSampling(shape={self.shape}, n_coils={self.n_coils}, acceleration={self.acceleration:.2f})"


def fingerprint(*parts: Any) -> str:
    """A short stable hash of geometries, grids, arrays and plain values; the key of caches and provenance."""
    digest = hashlib.sha256()
    for part in parts:
        _feed(digest, part)
    return digest.hexdigest()[:16]


def _feed(digest: Any, part: Any) -> None:
    if isinstance(part, np.ndarray):
        digest.update(f"{part.dtype.str}{part.shape}".encode())
        digest.update(np.ascontiguousarray(part).data)
    elif isinstance(part, (_Value, VolumeGrid)):
        digest.update(type(part).__name__.encode())
        for f in fields(part):  # type: ignore[arg-type]
            _feed(digest, getattr(part, f.name))
    else:
        digest.update(repr(part).encode())
