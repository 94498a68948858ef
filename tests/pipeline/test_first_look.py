"""The first look: soon, like the truth, in the right place, for every kind of scan and before anything of any method."""

import numpy as np
import pytest

from napari_unroll.events import QuickLook, whole
from napari_unroll.pipeline.first_look import SLAB_VOXELS, Coarse, _from_the_middle, first_look, rough
from napari_unroll.pipeline.geometry_check import Sizes
from napari_unroll.pipeline.plan import Choices, resolve
from napari_unroll.pipeline.run import run
from tests.methods import tiny

SCANS = [tiny.cone, tiny.odd_parallel, tiny.odd_multicoil, tiny.radial, tiny.blurred, tiny.downsampled]


def looked_at(scan, box):
    """What the first look shows of a box."""
    seen = np.full([b.stop - b.start for b in box], np.nan, np.float32)
    for event in first_look(scan, box):
        if isinstance(event, QuickLook):
            seen[event.box] = event.values
    assert np.isfinite(seen).all()
    return seen


def likeness(a, b):
    return np.corrcoef(np.abs(a).ravel(), np.abs(b).ravel())[0, 1]


@pytest.mark.parametrize("make", SCANS, ids=lambda make: make.__name__)
def test_it_looks_like_the_truth_and_has_its_size(make):
    scan = make()
    seen = looked_at(scan, whole(scan.grid.shape))
    assert likeness(seen, scan.truth) > 0.7
    assert 0.4 < np.linalg.norm(seen) / np.linalg.norm(scan.truth) < 2


@pytest.mark.parametrize("make", SCANS, ids=lambda make: make.__name__)
def test_a_region_is_looked_at_in_its_place(make):
    scan = make()
    box = tuple(slice(n // 5, n - n // 3) for n in scan.grid.shape)
    apart = whole(scan.grid.shape)
    assert likeness(looked_at(scan, box), looked_at(scan, apart)[box]) > 0.85


@pytest.mark.parametrize("make", [tiny.multicoil, tiny.radial], ids=["cartesian", "radial"])
def test_what_is_in_the_middle_of_kspace_suffices(make, monkeypatch):
    monkeypatch.setattr("napari_unroll.pipeline.first_look.MAX_COIL_VOXELS", 4 * 16 * 16)
    scan = make()
    box = whole(scan.grid.shape)
    assert rough(scan, box).values.size < np.prod(scan.grid.shape)
    assert likeness(looked_at(scan, box), scan.truth) > 0.7


def test_interpolation_is_exact_for_planes_and_repeats_the_ends():
    z, y, x = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in (3, 4, 5)), indexing="ij")
    coarse = Coarse(z + 2 * y - x, (0.5, 0.5, 0.5), (2.0, 2.0, 2.0))
    fine = coarse.planes((6, 8, 10), slice(1, 4))
    k, j, i = np.meshgrid(np.arange(1, 4), np.arange(8), np.arange(10), indexing="ij")
    wanted = ((k - 0.5) / 2).clip(0, 2) + 2 * ((j - 0.5) / 2).clip(0, 3) - ((i - 0.5) / 2).clip(0, 4)
    np.testing.assert_allclose(fine, wanted, atol=1e-5)


def test_slabs_are_small_cover_everything_and_begin_in_the_middle():
    slabs = list(_from_the_middle((700, 400, 400)))
    assert slabs[0].start <= 350 <= slabs[0].stop
    assert sorted(z for s in slabs for z in range(s.start, s.stop)) == list(range(700))
    assert all((s.stop - s.start) * 400 * 400 <= SLAB_VOXELS for s in slabs)


def test_work_does_not_grow_with_the_scan():
    scan = tiny.cone()
    large = rough(scan, whole((20, 20, 20))).values.size
    fine = scan.with_grid(scan.grid.resample((400, 400, 400)))
    assert rough(fine, whole((400, 400, 400))).values.size <= 96**3 < 400**3
    assert large == 20**3


def test_where_a_look_takes_long_a_coarser_one_comes_before(monkeypatch):
    scan = tiny.cone()
    box = whole(scan.grid.shape)
    monkeypatch.setattr("napari_unroll.pipeline.first_look.COARSEST", Sizes(views=6, columns=10, voxels=10))
    for soon, n in ((10**9, 1), (0, 2)):
        monkeypatch.setattr("napari_unroll.pipeline.first_look.SOON", soon)
        looks = [e.values for e in first_look(scan, box) if isinstance(e, QuickLook)]
        assert len(looks) == n
        likenesses = [likeness(look, scan.truth) for look in looks]
        assert likenesses == sorted(likenesses)
        assert likenesses[0] > 0.5


@pytest.mark.parametrize(("method", "make"), tiny.applicable())
def test_it_comes_before_anything_that_a_method_shows(method, make, tmp_path):
    scan = make()
    plan = resolve(Choices(method=method.name, params=tiny.quick_params(method, scan, tmp_path), device="cpu"), scan)
    first = next(e for e in run(plan, scan, look=True) if getattr(e, "values", None) is not None)
    assert isinstance(first, QuickLook)
    assert np.isfinite(first.values).all()
