"""Geometries as values: what the scanner did, in millimetres and radians.

Frozen, comparable with a tolerance, with a ``repr`` that rebuilds them. No computation on
devices, no files. Vectors are in ASTRA's order (x, y, z); array axes and grid tuples are (z, y, x).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from napari_unroll.errors import ScanError
from napari_unroll.events import Box


@dataclass(frozen=True, kw_only=True)
class VolumeGrid:
    """A regular grid of voxels, axes (z, y, x).

    ``shape`` counts voxels, ``spacing_mm`` is the size of a voxel, ``center_mm`` the position of
    the grid's centre relative to the rotation axis (CT) or isocentre (MRI).
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)
    center_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        object.__setattr__(self, "spacing_mm", tuple(float(s) for s in self.spacing_mm))
        object.__setattr__(self, "center_mm", tuple(float(c) for c in self.center_mm))
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise ScanError(f"A volume grid needs three positive sizes (z, y, x); got {self.shape}.")
        if len(self.spacing_mm) != 3 or not all(np.isfinite(s) and s > 0 for s in self.spacing_mm):
            raise ScanError(f"Voxel sizes must be three positive lengths in mm; got {self.spacing_mm}.")

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


def _checked_vectors(vectors: Any, detector_shape: Any) -> tuple[np.ndarray, tuple[int, int]]:
    v = np.array(vectors, dtype=np.float64)
    if v.ndim != 2 or v.shape[1] != 12 or v.shape[0] == 0:
        raise ScanError(f"Projection vectors need one row of 12 numbers per view; got an array of shape {v.shape}.")
    if not np.isfinite(v).all():
        raise ScanError("Projection vectors hold NaN or infinity; check the geometry file.")
    pitch = np.linalg.norm(v[:, 6:].reshape(-1, 2, 3), axis=2)
    if pitch.min() <= 0:
        raise ScanError("A detector axis (u or v) has length zero; u and v must carry the pixel pitch in mm.")
    rows, cols = (int(n) for n in detector_shape)
    if min(rows, cols) < 1:
        raise ScanError(f"The detector needs positive (rows, columns); got {(rows, cols)}.")
    v.setflags(write=False)
    return v, (rows, cols)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class _Vectors(_Value):
    vectors: np.ndarray
    detector_shape: tuple[int, int]

    def __post_init__(self) -> None:
        vectors, shape = _checked_vectors(self.vectors, self.detector_shape)
        object.__setattr__(self, "vectors", vectors)
        object.__setattr__(self, "detector_shape", shape)

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


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ConeBeam(_Vectors):
    """Cone beam: per view (ASTRA ``cone_vec``) source, detector centre, u, v as x, y, z in mm.

    ``vectors`` (view, 12); u points from pixel (0, 0) to (0, 1), v from (0, 0) to (1, 0), and both carry
    the pixel pitch. ``detector_shape`` is (rows, columns).
    """

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
        if not 0 < source_origin_mm < source_detector_mm:
            raise ScanError(
                "Expected 0 < source-origin < source-detector distance; got "
                f"{source_origin_mm} mm and {source_detector_mm} mm. Were they exchanged?"
            )
        a = np.asarray(angles_rad, dtype=np.float64).ravel()
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
    def source_origin_mm(self) -> float:
        """Mean distance from the source to the rotation axis (z)."""
        return float(np.linalg.norm(self.vectors[:, :2], axis=1).mean())

    @property
    def source_detector_mm(self) -> float:
        """Mean distance from the source to the detector plane."""
        v = self.vectors
        normal = np.cross(v[:, 6:9], v[:, 9:12])
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        return float(np.abs(((v[:, 3:6] - v[:, :3]) * normal).sum(1)).mean())

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
        a = np.asarray(angles_rad, dtype=np.float64).ravel()
        s, c, zero = np.sin(a), np.cos(a), np.zeros_like(a)
        dv, du = detector_offset_mm
        vectors = np.stack(
            [s, -c, zero, c * du, s * du, zero + dv, c * pixel_mm[1], s * pixel_mm[1], zero, zero, zero, zero + pixel_mm[0]],
            axis=1,
        )  # fmt: skip
        return cls(vectors=vectors, detector_shape=detector_shape)

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
                f"got shape {mask.shape} with {int(mask.sum())} samples."
            )
        if int(self.n_coils) < 1:
            raise ScanError(f"k-space needs at least one coil; got {self.n_coils}.")
        mask.setflags(write=False)
        object.__setattr__(self, "mask", mask)
        object.__setattr__(self, "n_coils", int(self.n_coils))

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
