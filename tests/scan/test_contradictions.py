"""What does not fit together is named; what fits is not."""

from dataclasses import replace

import numpy as np
import pytest

from napari_unroll.physics.samples import sample_multicoil
from napari_unroll.scan.contradictions import contradictions
from napari_unroll.scan.geometry import ConeBeam, ParallelBeam
from napari_unroll.scan.grids import axis_column, default_grid
from napari_unroll.scan.scan import Scan

N = 40


def scan_of(degrees, beam=ParallelBeam, stack=None, **more):
    common = {"pixel_mm": (0.5, 0.5)} | more
    geometry = beam.circular(angles_rad=np.deg2rad(degrees), detector_shape=(3, N), **common)
    if stack is None:
        stack = np.tile(np.hanning(N).astype(np.float32), (len(degrees), 3, 1))
    return Scan(measurements=stack, geometry=geometry, grid=default_grid(geometry))


HALF = np.linspace(0, 180, 37)
CONE = {"beam": ConeBeam, "source_origin_mm": 50, "source_detector_mm": 100}


@pytest.mark.parametrize(
    "angles",
    [HALF, -HALF, HALF[:-1], np.linspace(0, 360, 100), np.linspace(-60, 60, 41), np.arange(60) * 111.246,
     np.linspace(0, 1080, 300), [0.0, 5.0], HALF + np.random.default_rng(0).normal(0, 0.2, 37)],
)  # fmt: skip
def test_usual_scans_have_none(angles):
    assert contradictions(scan_of(np.asarray(angles))) == []
    assert contradictions(scan_of(np.asarray(angles), **CONE)) == []


@pytest.mark.parametrize(
    ("angles", "words"),
    [
        (np.deg2rad(HALF), "radians that were taken for degrees"),
        (np.delete(HALF, range(10, 20)), "27 views in steps of 5° make 130°, but the angles go over 180°"),
        (np.r_[HALF[:18], HALF[17:-1]], "1 of 37 views have the angle of the view before"),
    ],
)
def test_angles_against_frames(angles, words):
    (sentence,) = contradictions(scan_of(angles))
    assert words in sentence


def test_axis_outside_the_detector():
    (sentence,) = contradictions(scan_of(HALF, detector_offset_mm=(0.0, 12.0)))
    assert "column -4.5, outside the detector's 40 columns" in sentence


def test_pixels_against_distances():
    (sentence,) = contradictions(
        scan_of(HALF, ConeBeam, source_origin_mm=60, source_detector_mm=80, pixel_mm=(2.65, 2.65))
    )
    assert "a fan of 67°" in sentence


def test_object_beyond_the_field_of_view():
    stack = np.ones((37, 3, N), np.float32)
    (sentence,) = contradictions(scan_of(HALF, stack=stack, **CONE))
    assert "field of view of 10 mm" in sentence


@pytest.mark.parametrize("more", [{}, CONE])
def test_the_column_of_the_axis(more):
    assert axis_column(scan_of(HALF, detector_offset_mm=(0.3, 1.0), **more).geometry) == pytest.approx(17.5)


@pytest.mark.parametrize("shape", [(1, 32, 32), (6, 24, 40)])
def test_usual_kspace_has_none(shape):
    assert contradictions(sample_multicoil(shape, n_coils=6, acceleration=3)) == []


def test_kspace_whose_middle_lies_in_the_corner():
    scan = sample_multicoil((1, 32, 48), n_coils=4, acceleration=2)
    mask = np.fft.ifftshift(scan.geometry.mask, axes=1)
    moved = replace(
        scan, measurements=np.fft.ifftshift(scan.measurements, axes=2), geometry=replace(scan.geometry, mask=mask)
    )
    sentence, *_ = contradictions(moved)
    assert "lies -16 along y from the middle" in sentence
    assert "centred=false" in sentence


def test_coil_maps_in_another_order():
    scan = sample_multicoil((1, 32, 32), n_coils=6, acceleration=2)
    (sentence,) = contradictions(replace(scan, csm=np.roll(scan.csm, 2, axis=0)))
    assert "in another order of coils" in sentence
