"""Cards beside scans: what is alike says nothing, what is not says one sentence."""

from dataclasses import replace

import pytest

from napari_unroll.methods.algorithms import adaptation
from napari_unroll.methods.algorithms.adaptation import n_adaptation
from napari_unroll.methods.domain import QUANTITIES, foreign, outside
from napari_unroll.methods.registry import get
from napari_unroll.methods.weights import shipped
from napari_unroll.physics.samples import sample_cone_beam, sample_multicoil
from napari_unroll.pipeline.devices import Device
from napari_unroll.pipeline.plan import Choices, resolve
from napari_unroll.pipeline.verdicts import automatic
from napari_unroll.scan import kspace_noise
from napari_unroll.scan.geometry import VolumeGrid
from tests.methods import tiny


@pytest.fixture(scope="module")
def like_training():
    return sample_multicoil((4, 64, 64), n_coils=8, acceleration=5)


@pytest.fixture(autouse=True)
def _isolated(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_UNROLL_CACHE", str(tmp_path))


def test_scans_like_the_training_data_are_inside(like_training):
    assert foreign(get("unrolled-pgd"), like_training) == []
    assert foreign(get("unrolled-pgd"), tiny.cone(20, 30)) == []
    assert automatic(like_training) == (get("unrolled-pgd"), [])


def test_every_difference_is_a_sentence():
    scan = sample_multicoil((4, 64, 64), n_coils=4, acceleration=3)
    coils, acceleration = foreign(get("unrolled-pgd"), scan)
    assert coils == "The network was trained for 8 coils; this scan has 4."
    assert acceleration == "The network was trained for 5 to 10 times acceleration; this scan has 3."


@pytest.mark.parametrize(("planes", "method", "so"), [
    (4, "unrolled-pgd", "So it is first adapted to the scan's own samples, in 40 steps."),
    (40, "tv-fista", "So auto takes tv-fista, not unrolled-pgd."),
])  # fmt: skip
def test_auto_adapts_to_what_is_outside_where_that_takes_minutes_only(planes, method, so):
    scan = sample_multicoil((planes, 64, 64), n_coils=4, acceleration=3)
    assert automatic(scan)[0] is get(method)
    plan = resolve(Choices(), scan, [Device("cpu", "CPU", 2**33)])
    assert n_adaptation(plan.params) == (adaptation.AUTO_STEPS if planes == 4 else 0)
    assert plan.cautions[-3:] == (*foreign(get("unrolled-pgd"), scan), so)
    inside = resolve(Choices(), sample_multicoil((4, 64, 64), n_coils=8, acceleration=5), [Device("cpu", "CPU", 2**33)])
    assert (inside.method, n_adaptation(inside.params)) == ("unrolled-pgd", 0)


def test_single_slices_are_adapted_to_inside_too():
    scan = sample_multicoil((1, 64, 64), n_coils=8, acceleration=5)
    plan = resolve(Choices(), scan, [Device("cpu", "CPU", 2**33)])
    assert (plan.method, n_adaptation(plan.params)) == ("unrolled-pgd", adaptation.AUTO_STEPS)
    assert foreign(get("unrolled-pgd"), scan) == list(plan.cautions) == []


def test_another_geometry_and_other_views_are_outside():
    geometry, *_ = foreign(get("unrolled-pgd"), tiny.parallel())
    assert geometry == "The network was trained for cone beam; this scan is parallel beam."
    (views,) = foreign(get("unrolled-pgd"), tiny.cone(20, 12))
    assert "20 to 100 views; this scan has 12." in views


def test_a_single_plane_is_outside():
    scan = tiny.cone(20, 30)
    row = replace(scan, grid=VolumeGrid(shape=(1, 20, 20), spacing_mm=scan.grid.spacing_mm), truth=None)
    (planes,) = foreign(get("unrolled-pgd"), row)
    assert planes == "The network was trained for 64 to 1e+03 planes; this scan has 1."
    assert automatic(row)[0] is get("tv-fista")


def test_few_views_for_many_voxels_are_outside():
    """They are where the network's gain over its start is gone (docs/decisions/far_lags.md)."""
    scan = tiny.cone(20, 30)
    fine = replace(scan, grid=scan.grid.resample((160, 160, 160)), truth=None)
    (density,) = foreign(get("unrolled-pgd"), fine)
    assert density == "The network was trained for 0.312 to 1.56 views per voxel across; this scan has 0.188."
    assert automatic(fine)[0] is get("tv-fista")


def test_photons_are_compared():
    (photons,) = foreign(get("unrolled-pgd"), sample_cone_beam(24, 30, photons=1e3, oversample=1))
    assert "3e+04 to 3e+05 photons per pixel; this scan has 1" in photons


def test_methods_without_weights_and_cards_without_numbers_say_nothing(like_training):
    assert foreign(get("tv-fista"), like_training) == []
    assert outside({}, like_training) == []
    assert outside({"domain": {"views": [3, 4]}}, like_training) == []


def test_the_plan_shows_them_before_anything_runs():
    scan = sample_multicoil((2, 32, 32), n_coils=4, acceleration=3)
    plan = resolve(Choices(method="unrolled-pgd", device="cpu"), scan)
    assert any("8 coils" in sentence for sentence in plan.facts["caution"])


def test_shipped_networks_of_scanners_have_numbers_that_are_known():
    for weights in shipped().values():
        if not weights.name.startswith("denoiser"):
            domain = weights.card["domain"]
            assert set(domain) - {"geometries"} <= set(QUANTITIES)
            assert all(domain[name][0] <= domain[name][1] for name in domain if name != "geometries")


def test_the_noise_of_a_scan_is_measured_once(monkeypatch):
    scan, calls = sample_multicoil((2, 32, 32), n_coils=8, acceleration=5), []
    found = kspace_noise.low_resolution_images
    monkeypatch.setattr(kspace_noise, "low_resolution_images", lambda *given: calls.append(1) or found(*given))
    first = resolve(Choices(), scan, [Device("cpu", "CPU", 2**33)])
    n = len(calls)
    assert n > 0
    assert resolve(Choices(), scan, [Device("cpu", "CPU", 2**33)]) == first
    assert len(calls) == n
