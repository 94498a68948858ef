"""Orbits beyond the full circle about the middle, from the file to the image: half acquisition, helix, laminography."""

import numpy as np
import pytest
import torch

from napari_unroll.io.registry import read
from napari_unroll.physics.xray import XRay
from napari_unroll.pipeline.edits import Edits, moved
from napari_unroll.pipeline.plan import Choices, resolve
from napari_unroll.pipeline.run import run
from napari_unroll.scan.geometry import ConeBeam, ParallelBeam, VolumeGrid
from napari_unroll.scan.grids import axis_column, default_grid


def balls(grid: VolumeGrid, *centres_mm) -> np.ndarray:
    """Balls of radius 5 mm with centres (z, y, x), 0.05 per mm."""
    at = np.meshgrid(
        *(o + s * np.arange(n) for o, s, n in zip(grid.origin_mm, grid.spacing_mm, grid.shape, strict=True)),
        indexing="ij",
    )
    inside = [sum((a - c) ** 2 for a, c in zip(at, centre, strict=True)) < 25 for centre in centres_mm]
    return (0.05 * np.any(inside, axis=0)).astype(np.float32)


def grains(grid: VolumeGrid) -> np.ndarray:
    """Single voxels within the inscribed cylinder: the axis is found by what both halves of the turn see."""
    rng, n = np.random.default_rng(0), grid.shape[1]
    y, x = (v - (n - 1) / 2 for v in np.ogrid[:n, :n])
    return np.where((rng.random(grid.shape) < 0.05) & (np.hypot(y, x) < 0.45 * n), 0.05, 0).astype(np.float32)


def projections(geometry, grid, volume) -> np.ndarray:
    return XRay(geometry, grid).A(torch.from_numpy(volume)[None, None])[0, 0].numpy()


def reconstructed(scan, method, **params) -> np.ndarray:
    *_, finished = run(resolve(Choices(method=method, params=params, device="cpu"), scan), scan)
    return finished.result


def levels(scan, volume, *centres_mm) -> list[float]:
    """Means within 3 mm of the centres."""
    grid = scan.grid
    at = np.meshgrid(
        *(o + s * np.arange(n) for o, s, n in zip(grid.origin_mm, grid.spacing_mm, grid.shape, strict=True)),
        indexing="ij",
    )
    return [
        float(volume[sum((a - c) ** 2 for a, c in zip(at, centre, strict=True)) < 9].mean()) for centre in centres_mm
    ]


@pytest.mark.parametrize("sense", [1, -1])
@pytest.mark.parametrize("beam", ["parallel", "cone"])
def test_half_acquisition(tmp_path, beam, sense):
    """A full turn about an axis near the detector's border shows what is nearly twice as wide as the detector."""
    angles, columns, away = np.linspace(0, 2 * np.pi, 121)[:-1], 40, 13.0
    common = {"angles_rad": angles, "detector_shape": (5, columns), "pixel_mm": (1.0, 1.0)}
    common |= {"detector_offset_mm": (0.0, sense * away)}
    distances = {} if beam == "parallel" else {"source_origin_mm": 300.0, "source_detector_mm": 360.0}
    geometry = (ParallelBeam if beam == "parallel" else ConeBeam).circular(**common, **distances)
    grid, centres = VolumeGrid(shape=(5, 64, 64)), [(0, 4, 20), (0, -12, -6)]
    body = np.maximum(balls(grid, *centres), grains(grid))
    np.save(tmp_path / "a.npy", projections(geometry, grid, body))
    (tmp_path / "a.txt").write_text("\n".join(f"{a:.9g}" for a in np.rad2deg(angles)))
    axis = 19.5 - sense * away
    asked = {"pixel_mm": 1, "values": "line-integrals", **distances} | ({} if beam == "parallel" else {"axis_px": axis})
    scan = read(tmp_path / "a.npy", **asked)
    assert axis_column(scan.geometry) == pytest.approx(axis, abs=0.3)
    assert scan.grid.shape == (5, 66, 66)
    volume = reconstructed(scan, "fdk")
    assert levels(scan, volume, *centres) == pytest.approx([0.05, 0.05], rel=0.1)


def test_a_helix_by_its_vectors(tmp_path):
    """The volume is as high as the helix, not as the detector."""
    angles = np.linspace(0, 4 * np.pi, 72)
    geometry = ConeBeam.circular(
        angles_rad=angles, source_origin_mm=100, source_detector_mm=150, detector_shape=(14, 36), pixel_mm=(1.5, 1.5)
    )
    vectors = np.array(geometry.vectors)
    climb = np.linspace(-14, 14, len(angles))
    vectors[:, 2] += climb
    vectors[:, 5] += climb
    geometry = ConeBeam(vectors=vectors, detector_shape=geometry.detector_shape)
    grid, centres = VolumeGrid(shape=(42, 36, 36)), [(-12, 4, 5), (0, -5, 0), (12, 0, -6)]
    np.save(tmp_path / "a.npy", projections(geometry, grid, balls(grid, *centres)))
    np.savetxt(tmp_path / "v.txt", vectors)
    scan = read(tmp_path / "a.npy", vectors="v.txt", values="line-integrals")
    assert scan.grid.shape == (42, 36, 36)
    assert default_grid(geometry).center_mm == pytest.approx((0, 0, 0), abs=1e-9)
    assert levels(scan, reconstructed(scan, "cgls", n_iterations=8), *centres) == pytest.approx([0.05] * 3, rel=0.1)


def test_laminography_by_its_vectors(tmp_path):
    """An axis that leans towards the beam by 35°."""
    plain = ParallelBeam.circular(angles_rad=np.linspace(0, 2 * np.pi, 61)[:-1], detector_shape=(36, 40))
    geometry = moved(plain, Edits(tilt_deg=35.0))
    grid, centres = VolumeGrid(shape=(12, 40, 40)), [(0, 8, 5), (0, -9, -6)]
    np.save(tmp_path / "a.npy", projections(geometry, grid, balls(grid, *centres)))
    np.save(tmp_path / "v.npy", geometry.vectors)
    scan = read(tmp_path / "a.npy", vectors="v.npy", values="line-integrals")
    assert isinstance(scan.geometry, ParallelBeam)
    assert scan.grid.shape == (36, 40, 40)
    assert levels(scan, reconstructed(scan, "cgls", n_iterations=8), *centres) == pytest.approx([0.05] * 2, rel=0.25)
