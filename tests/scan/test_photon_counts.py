"""Photons are counted from the noise of views, and how well is told."""

from dataclasses import replace

import numpy as np
import pytest

from napari_unroll.physics.samples import sample_cone_beam
from napari_unroll.physics.simulate import Exposure, count_photons, simulate_ct
from napari_unroll.scan.geometry import ConeBeam, VolumeGrid
from napari_unroll.scan.photon_counts import MOST, photons
from napari_unroll.scan.scan import Scan


@pytest.mark.parametrize("n", [3e3, 1e5, 1e6])
def test_photons_are_counted(n):
    scan = sample_cone_beam(32, 20, photons=n, oversample=1)
    assert photons(scan).value == pytest.approx(n, rel=0.2)


def fan(columns: int, n_views: int, n: float) -> Scan:
    """Of plates in a disc 64 mm wide, as sharp as half a pixel."""
    geometry = ConeBeam.circular(
        angles_rad=2 * np.pi * np.arange(n_views) / n_views,
        detector_shape=(1, columns),
        pixel_mm=(2.0, 2.0),
        source_origin_mm=200,
        source_detector_mm=400,
    )
    y, x = np.indices((128, 128)) - 63.5
    volume = (np.hypot(y, x) < 60) * (1 + 2.0 * ((x // 9) % 2 == 0) * ((y // 14) % 2 == 0))
    grid = VolumeGrid(shape=(1, 64, 64))
    return simulate_ct(volume[None].astype(np.float32), geometry, grid, Exposure(photons=n))


@pytest.mark.parametrize("n", [1e3, 1e4, 1e5, 1e6])
def test_one_row_detectors_with_air_beside_the_object_are_measured_there(n):
    assert photons(fan(80, 120, n)).value == pytest.approx(n, rel=0.3)


@pytest.mark.parametrize(("n", "least"), [(1e3, 0.7), (1e4, 0.7), (1e5, 0.6), (1e6, 0.3)])
def test_one_row_detectors_that_a_sharp_object_fills_are_measured_between_views_too(n, least):
    """Neighbouring pixels alone say 0.6, 0.18, 0.025 and 0.003 of it."""
    assert least * n < photons(fan(40, 720, n)).value < 1.2 * n


def test_photons_are_a_limit_where_the_object_is_everywhere():
    """With few views sharp objects that fill the detector pass for noise."""
    assert not photons(fan(80, 120, 1e5)).is_limit
    filled = photons(fan(40, 30, 1e6))
    assert filled.is_limit
    assert filled.value + 2 * filled.error < 0.5e6


def test_pixels_that_saw_next_to_nothing_do_not_count_as_quiet():
    scan = fan(40, 200, 1e5)
    counts = np.random.default_rng(0).poisson(1e3 * np.exp(-4 * scan.measurements.astype(np.float64)))
    dark = replace(scan, measurements=-np.log(np.maximum(counts, 1) / 1e3).astype(np.float32))
    assert photons(dark).value < 1.3e3


def test_what_is_told_of_chance_is_how_much_repeated_scans_differ():
    scan = fan(80, 60, 0)
    rng = np.random.default_rng(0)
    found = [photons(replace(scan, measurements=count_photons(scan.measurements, 1e4, rng))) for _ in range(30)]
    assert np.mean([f.error for f in found]) == pytest.approx(np.std([f.value for f in found]), rel=0.35)
    near = [abs(f.value - 1e4) < 2 * f.error for f in found]
    assert np.mean(near) > 0.8


def test_constant_views_have_no_noise():
    scan = sample_cone_beam(16, 4, oversample=1)
    assert photons(replace(scan, measurements=np.ones_like(scan.measurements))).value == MOST
