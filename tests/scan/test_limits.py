"""Sane by construction: what is not finite or not possible is refused where it is made, in one short sentence."""

import numpy as np
import pytest

from napari_unroll.errors import ScanError
from napari_unroll.scan.field_of_view import check_volume
from napari_unroll.scan.geometry import CartesianSampling, ConeBeam, ParallelBeam, VolumeGrid
from napari_unroll.scan.grids import default_grid
from napari_unroll.scan.limits import LONGEST_MM, MOST, SHORTEST_MM
from napari_unroll.scan.scan import Scan
from napari_unroll.scan.trajectories import NonCartesianSampling, radial_2d

INF, NAN = np.inf, np.nan


def grid(**changes):
    return VolumeGrid(**({"shape": (4, 5, 6), "spacing_mm": (1.0, 1.0, 1.0)} | changes))


def cone(**changes):
    given = {
        "angles_rad": [0.0, 1.0, 2.0], "source_origin_mm": 50.0, "source_detector_mm": 100.0, "detector_shape": (6, 8),
        "pixel_mm": (2.0, 2.0),
    }  # fmt: skip
    return ConeBeam.circular(**(given | changes))


def parallel(**changes):
    return ParallelBeam.circular(
        **({"angles_rad": [0.0, 1.0], "detector_shape": (6, 8), "pixel_mm": (1.0, 1.0)} | changes)
    )


def of_vectors(kind, place, value):
    """A sound geometry with some numbers of its second view replaced."""
    v = np.array((cone() if kind is ConeBeam else parallel()).vectors)
    v[1, place] = value
    return kind(vectors=v, detector_shape=(6, 8))


def radial(**changes):
    return NonCartesianSampling(**({"trajectory": radial_2d(3, 8), "shape": (1, 8, 8), "n_coils": 2} | changes))


def scan(geometry, volume=None, **changes):
    measurements = np.zeros(geometry.measurement_shape, np.float32)
    return Scan(**({"measurements": measurements, "geometry": geometry, "grid": volume or grid()} | changes))


def mri(**changes):
    sampling = CartesianSampling(mask=np.ones((4, 5, 6)), n_coils=2)
    return scan(sampling, **({"measurements": np.zeros((2, 4, 5, 6), np.complex64)} | changes))


GRIDS = [
    *[pytest.param(lambda v=v: grid(center_mm=(0, v, 0)), id=f"centre {v}") for v in (INF, -INF, NAN, 1e20, 2e7)],
    *[pytest.param(lambda v=v: grid(spacing_mm=(1, v, 1)), id=f"voxel {v}") for v in (INF, NAN, 1e-18, 1e300, 0, -1)],
    *[
        pytest.param(lambda v=v: grid(shape=(4, v, 4)), id=f"size {v}")
        for v in (0, -3, 2 * MOST, 10**30, 1e300, INF, NAN, 2.5, "many", None)
    ],
    pytest.param(lambda: grid(shape=(4, 5)), id="two sizes"),
    pytest.param(lambda: grid(spacing_mm=1.0), id="one spacing"),
    pytest.param(lambda: grid(center_mm=(9e6, 0, 0), spacing_mm=(1e6, 1, 1)), id="reaches too far"),
]
BEAMS = [
    *[pytest.param(lambda v=v: cone(angles_rad=[0.0, v]), id=f"angle {v}") for v in (NAN, INF, 1e19)],
    *[pytest.param(lambda v=v: parallel(angles_rad=[v]), id=f"parallel angle {v}") for v in (NAN, -INF, 1e300)],
    *[pytest.param(lambda v=v: cone(source_origin_mm=v), id=f"source {v}") for v in (-1, 0, NAN, INF, 1e-18, 100)],
    *[pytest.param(lambda v=v: cone(source_detector_mm=v), id=f"detector {v}") for v in (-1, 0, NAN, INF, 1e20, 20)],
    *[pytest.param(lambda v=v: parallel(pixel_mm=(1, v)), id=f"pixel {v}") for v in (-1, 0, NAN, INF, 1e-18, 1e20)],
    *[pytest.param(lambda v=v: parallel(detector_offset_mm=(0, v)), id=f"axis column {v}") for v in (NAN, INF, 1e19)],
    *[pytest.param(lambda v=v: parallel(detector_shape=(4, v)), id=f"columns {v}") for v in (0, 10**9, INF, NAN)],
    pytest.param(lambda: parallel(angles_rad=[]), id="no views"),
    *[
        pytest.param(lambda k=k, p=p, v=v: of_vectors(k, p, v), id=f"{k.__name__} {what}")
        for k in (ConeBeam, ParallelBeam)
        for what, p, v in (
            ("nan", 4, NAN), ("inf", 0, INF), ("far", 4, 1e19), ("u of length 0", slice(6, 9), 0),
            ("v beside u", slice(9, 12), cone().vectors[1, 6:9]),
            ("ray along the detector", slice(0, 6), np.r_[np.cos(1), np.sin(1), 0, 0, 0, 0]),
        )
    ],
    pytest.param(lambda: of_vectors(ParallelBeam, slice(0, 3), 0), id="no direction"),
    pytest.param(lambda: of_vectors(ConeBeam, slice(3, 6), cone().vectors[1, :3]), id="source on the detector"),
    pytest.param(lambda: ConeBeam(vectors=cone().vectors * ([0, 0, 0] + [1] * 9), detector_shape=(6, 8)), id="on the axis"),
    pytest.param(lambda: ConeBeam(vectors=np.zeros((2, 11)), detector_shape=(6, 8)), id="11 numbers"),
]  # fmt: skip
SAMPLINGS = [
    *[
        pytest.param(lambda v=v: radial(trajectory=radial_2d(3, 8) + np.array([0, v, 0])), id=f"k {v}")
        for v in (NAN, INF, 1e300)
    ],
    *[pytest.param(lambda v=v: radial(n_coils=v), id=f"coils {v}") for v in (0, -1, NAN, INF, 10**20)],
    *[pytest.param(lambda v=v: radial(shape=(1, v, 8)), id=f"grid {v}") for v in (0, NAN, 10**9)],
    *[
        pytest.param(lambda v=v: radial(weights=np.full((3, 8), v)), id=f"weights {v}")
        for v in (NAN, INF, -1.0, 0.0, 1e300, 1e-300)
    ],
    pytest.param(lambda: CartesianSampling(mask=np.zeros((2, 3, 4)), n_coils=1), id="mask of zeros"),
    pytest.param(lambda: CartesianSampling(mask=np.ones((3, 4)), n_coils=1), id="mask of two axes"),
    *[
        pytest.param(lambda v=v: CartesianSampling(mask=np.ones((2, 3, 4)), n_coils=v), id=f"{v} coils")
        for v in (0, NAN)
    ],
]
SCANS = [
    pytest.param(lambda: scan(cone(source_origin_mm=2.0)), id="source inside"),
    pytest.param(lambda: scan(cone(), grid(center_mm=(0, 0, 500.0))), id="grid beside the fan"),
    pytest.param(lambda: scan(parallel(), grid(center_mm=(30.0, 0, 0))), id="grid above the beam"),
    pytest.param(lambda: scan(parallel(detector_offset_mm=(0, 1e6))), id="detector far off"),
    pytest.param(lambda: scan(cone(angles_rad=[0.0]), grid(center_mm=(0, -80.0, 0))), id="grid behind the source"),
    pytest.param(lambda: scan(cone(), measurements=np.full((3, 6, 8), NAN)), id="measurements nan"),
    pytest.param(lambda: scan(cone(), measurements=np.zeros((3, 6, 8), complex)), id="complex projections"),
    pytest.param(lambda: scan(cone(), truth=np.full((4, 5, 6), INF)), id="truth inf"),
    pytest.param(lambda: mri(measurements=np.zeros((2, 4, 5, 6))), id="real k-space"),
    pytest.param(lambda: mri(csm=np.full((2, 4, 5, 6), NAN)), id="maps nan"),
    pytest.param(lambda: mri(csm=np.zeros((2, 4, 5, 6))), id="maps of zeros"),
]


@pytest.mark.parametrize("make", GRIDS + BEAMS + SAMPLINGS + SCANS)
def test_what_cannot_be_is_one_short_sentence(make):
    with pytest.raises(ScanError) as caught:
        make()
    text = str(caught.value)
    assert len(text) <= 260
    assert "\n" not in text
    assert text.endswith((".", "?"))


def test_the_limits_themselves_are_allowed():
    for size in (SHORTEST_MM, LONGEST_MM / 10):
        assert grid(spacing_mm=(size,) * 3).spacing_mm[0] == size
    assert grid(shape=(1, MOST, 1), spacing_mm=(1, 1e-3, 1)).shape[1] == MOST
    assert cone(source_detector_mm=LONGEST_MM).n_views == 3


@pytest.mark.parametrize(
    "geometry", [cone(), parallel(), cone(pixel_mm=(1e-6, 1e-6)), cone(detector_offset_mm=(7.0, 12.0))]
)
def test_the_default_volume_is_always_seen(geometry):
    check_volume(geometry, default_grid(geometry))


def test_a_region_at_the_rim_of_the_field_of_view_is_kept():
    """Columns reach to ±4 mm, the region to ±3 mm of its centre: it is refused only where its shadow misses the detector."""
    beam = parallel(angles_rad=[0.0])
    check_volume(beam, grid(center_mm=(0, 0, 6.9)))
    with pytest.raises(ScanError, match="No ray meets"):
        check_volume(beam, grid(center_mm=(0, 0, 7.1)))


def test_a_volume_that_reaches_behind_a_source_may_be_seen():
    wide = grid(shape=(1, 1, 200), center_mm=(0, 0, 0))
    check_volume(cone(angles_rad=[0.0]), wide)
    assert scan(cone(angles_rad=[0.0]), wide).grid == wide
