"""Every ray counts once, however often it was measured."""

import numpy as np
import pytest
import torch
from scipy.interpolate import RegularGridInterpolator

from napari_unroll.physics import fdk
from napari_unroll.physics.redundancy import covered_arc, fan_angles, missing_arc, redundancy_weights
from napari_unroll.physics.xray import XRay
from napari_unroll.scan.geometry import ConeBeam, ParallelBeam, VolumeGrid

FAN = 2 * np.arctan(0.5 * 64 / 200)


def cone(length, n_views=180, start=0.3, columns=64, offset=0.0, sense=1):
    angles = start + sense * length * np.arange(n_views) / n_views
    return ConeBeam.circular(
        angles_rad=angles, source_origin_mm=100, source_detector_mm=200, detector_shape=(9, columns), pixel_mm=(1, 1),
        detector_offset_mm=(0, offset),
    )  # fmt: skip


def parallel(length, n_views=180, offset=0.0):
    return ParallelBeam.circular(
        angles_rad=length * np.arange(n_views) / n_views, detector_shape=(9, 48), detector_offset_mm=(0, offset)
    )


def test_a_full_turn_measures_every_ray_twice():
    np.testing.assert_array_equal(redundancy_weights(cone(2 * np.pi)), 0.5)
    np.testing.assert_array_equal(redundancy_weights(cone(2 * np.pi, offset=1.0)), 0.5)


@pytest.mark.parametrize("sense", [1, -1])
@pytest.mark.parametrize("length", [np.pi + FAN + 0.05, 1.5 * np.pi])
def test_both_measurements_of_a_ray_add_up_to_one(length, sense):
    geometry = cone(length, n_views=720, start=0.3 if sense > 0 else 0.3 + length, sense=sense)
    weights, gamma = redundancy_weights(geometry), fan_angles(geometry)[0]
    beta = np.mod(geometry.angles_rad, 2 * np.pi)
    order, rays = np.argsort(beta), np.argsort(gamma)
    table = RegularGridInterpolator((beta[order], gamma[rays]), weights[order][:, rays], bounds_error=False)
    again = np.mod(beta[:, None] + np.pi + 2 * gamma, 2 * np.pi)
    other = table(np.stack([again, np.broadcast_to(-gamma, again.shape)], axis=-1))
    measured = np.isfinite(other)
    assert 0.1 < measured.mean() < 0.9
    np.testing.assert_allclose((weights + other)[measured], 1, atol=0.02)


def test_half_acquisition_counts_what_one_side_alone_has_seen_once():
    geometry = cone(2 * np.pi, offset=20.0)
    weights, gamma = redundancy_weights(geometry)[0], fan_angles(geometry)[0]
    rays = np.argsort(gamma)
    mirrored = np.interp(-gamma, gamma[rays], weights[rays], left=np.nan, right=np.nan)
    paired = np.isfinite(mirrored)
    assert paired.any()
    np.testing.assert_allclose((weights + mirrored)[paired], 1, atol=0.02)
    np.testing.assert_array_equal(weights[~paired], 1)


@pytest.mark.parametrize(
    "geometry",
    [
        cone(2 * np.pi), cone(np.pi + FAN + 0.1), cone(np.pi + FAN + 0.1, sense=-1), cone(1.5 * np.pi, columns=96),
        cone(2 * np.pi, offset=20.0), cone(2 * np.pi, offset=-20.0), parallel(np.pi), parallel(2 * np.pi),
        parallel(2 * np.pi, offset=14.0), parallel(2 * np.pi, offset=-14.0),
    ],
    ids=["full", "short", "short, reversed", "270°", "half, right", "half, left", "parallel 180°", "parallel 360°",
         "parallel half, right", "parallel half, left"],
)  # fmt: skip
def test_a_disc_keeps_its_attenuation(geometry):
    grid = VolumeGrid(shape=(3, 32, 32))
    _, y, x = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in grid.shape), indexing="ij")
    distance = np.hypot(x, y)
    radius = 11 if isinstance(geometry, ConeBeam) else 15
    disc = np.broadcast_to((distance < radius).astype(np.float32), grid.shape)
    physics = XRay(geometry, grid)
    projections = physics.A(torch.from_numpy(disc.copy())[None, None])[0, 0].numpy()
    volume = fdk.reconstruct(projections, geometry, grid, "hann", 1)
    inside = distance < radius - 4
    assert abs(volume[1][inside[1]].mean() - 1) < 0.03
    assert volume[1][inside[1]].std() < 0.05


def test_what_is_missing_is_said():
    assert missing_arc(cone(2 * np.pi)) == 0
    assert missing_arc(cone(np.pi + FAN + 0.1)) == 0
    assert missing_arc(cone(np.pi, n_views=180)) == pytest.approx(FAN, abs=0.02)
    assert missing_arc(parallel(2.0)) == pytest.approx(np.pi - 2.0, abs=0.02)
    assert covered_arc(np.r_[0:1:20j, 3:4:20j]) is None
