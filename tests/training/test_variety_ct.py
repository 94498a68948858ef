"""X-ray scanners drawn widely, and networks that are told their noise."""

import numpy as np
import pytest

from napari_unroll.methods.algorithms.network import USUAL_NOISE, Network, NetworkConfig, noise_told
from napari_unroll.methods.domain import outside
from napari_unroll.methods.networks.drunet import DRUNetConfig
from napari_unroll.methods.steps.gradient import GradientStepConfig
from napari_unroll.physics.build import build_physics
from napari_unroll.physics.laws import adjoint_error
from napari_unroll.scan.geometry import ConeBeam, ParallelBeam
from napari_unroll.scan.grids import is_full_turn, magnification
from napari_unroll.scan.noise import measured_noise
from napari_unroll.scan.phantoms_wide import WIDE_FAMILIES, wide_family_of
from napari_unroll.training.building import Operators, build, local_problems
from napari_unroll.training.card import model_card
from napari_unroll.training.dataset import split_dataset
from napari_unroll.training.objects import GENERATORS, generated
from napari_unroll.training.plan import Noise, TrainingPlan
from napari_unroll.training.sampler import PatchSampler
from napari_unroll.training.samples import SampleStore
from napari_unroll.training.scanners import XRayScanner, generated_scan
from napari_unroll.training.variety_ct import BEAMS, CUT, VOXEL_MM, drawn_xray_scanner

SIZE, VIEWS = 20, (15, 400)
NETWORK = NetworkConfig(
    prior=DRUNetConfig(dim=2, channels=(4, 4, 4, 4)),
    data_step=GradientStepConfig(),
    n_iterations=2,
    start_iterations=2,
    follows_noise=True,
)


def drawn(seed):
    return drawn_xray_scanner(seed, SIZE, VIEWS, Noise(photons=(5e3, 5e5)))


@pytest.fixture(scope="module")
def scanners():
    return [drawn(seed) for seed in range(200)]


def test_drawn_scanners_differ_in_everything(scanners):
    views = np.array([s.geometry.n_views for s in scanners])
    assert views.min() >= 15
    assert views.max() <= 400
    assert np.quantile(views, 0.25) < 50
    assert np.quantile(views, 0.75) > 150
    voxels = [s.grid.spacing_mm[2] for s in scanners]
    assert max(voxels) / min(voxels) > 3.5
    assert min(voxels) >= VOXEL_MM[0]
    kinds = {(type(s.geometry), s.grid.shape[0] > 1) for s in scanners}
    assert kinds == {(ConeBeam, True), (ConeBeam, False), (ParallelBeam, True)}
    distances = [magnification(s.geometry) for s in scanners if isinstance(s.geometry, ConeBeam)]
    assert min(distances) < 1.5
    assert max(distances) > 4
    turns = [is_full_turn(s.geometry.angles_rad) for s in scanners if isinstance(s.geometry, ConeBeam)]
    assert 0.6 < np.mean(turns) < 0.95


def test_every_beam_and_kind_of_object_is_drawn(scanners):
    assert {name.split()[1] for name in (s.name for s in scanners)} == set(BEAMS)
    assert {wide_family_of(seed) for seed in range(200)} == set(WIDE_FAMILIES)


def test_a_fan_beam_is_one_row_and_one_plane(scanners):
    fans = [s for s in scanners if " fan " in s.name]
    assert all(s.geometry.detector_shape[0] == s.grid.shape[0] == 1 for s in fans)


def test_objects_are_cut_in_part_of_the_scanners(scanners):
    cut = np.mean([s.around[2] > 0 for s in scanners])
    assert cut == pytest.approx(CUT, abs=0.08)


def test_whole_objects_cast_no_shadow_beyond_the_detector(scanners):
    """The outermost columns see nothing of an object that lies within the field of view, wherever the axis is."""
    for scanner in [s for s in scanners if s.around == (0, 0, 0)][:6]:
        z, y, x = scanner.object_grid.shape
        axis = (np.arange(x) + 0.5) / x * 2 - 1
        disc = np.hypot(axis[:, None], axis) < 0.9
        scan = scanner.simulate(np.broadcast_to(disc, (z, y, x)).astype(np.float32), 1)
        middle = scan.measurements.max()
        assert np.median(scan.measurements[..., [0, -1]]) < 0.1 * middle


def test_the_truth_is_the_part_of_the_object_within_the_field_of_view():
    whole = drawn(0)
    scanner = XRayScanner("cut", whole.geometry, whole.grid, around=(2, 3, 3))
    z, y, x = scanner.object_grid.shape
    assert (z, y, x) == tuple(2 * (n + 2 * a) for n, a in zip(whole.grid.shape, (2, 3, 3), strict=True))
    volume = np.zeros((z, y, x), np.float32)
    volume[4:-4, 6:-6, 6:-6] = 1
    scan = scanner.simulate(volume, 0)
    assert scan.truth.shape == whole.grid.shape
    assert scan.truth.min() == pytest.approx(scan.truth.max())
    assert scan.grid == whole.grid


def test_projections_hold_what_lies_beyond_the_grid():
    """A ring around the grid casts a shadow, though the truth is empty."""
    parallel = next(drawn(seed) for seed in range(100) if isinstance(drawn(seed).geometry, ParallelBeam))
    scanner = XRayScanner("cut", parallel.geometry, parallel.grid, around=(0, 5, 5))
    volume = np.ones(scanner.object_grid.shape, np.float32)
    volume[:, 10:-10, 10:-10] = 0
    scan = scanner.simulate(volume, 0)
    assert scan.truth.max() == 0
    assert np.median(scan.measurements) > 0.1


def test_a_drawn_scanner_is_that_of_its_seed():
    again, scan = (generated_scan(drawn(3), 3, variety=True) for _ in range(2))
    np.testing.assert_array_equal(again.measurements, scan.measurements)


def test_more_kinds_of_objects_with_variety_only():
    grid = drawn(0).grid
    usual = generated("ct")(grid, 7)
    np.testing.assert_array_equal(usual, GENERATORS["ct"](grid.shape, 7))
    assert any((generated("ct", variety=True)(grid, n) != generated("ct")(grid, n)).any() for n in range(5))


def test_samples_know_the_noise_that_is_told(tmp_path):
    plan = TrainingPlan(size=SIZE, levels=(15, 60), n_objects=3, n_held_out=1, variety=True, network=NETWORK)
    split, store = split_dataset(plan), SampleStore(tmp_path)
    assert len(split.scanners) == 4
    assert {spec.scanner for spec in split.held_out}.isdisjoint({spec.scanner for spec in split.training})
    list(build(store, split.training, local_problems(Operators(store, "cpu"), plan.network)))
    told = [noise_told(plan.network, spec.make(), 1.0) for spec in split.training]
    assert len(set(told)) == 3
    batch = PatchSampler([store.load(i) for i in range(3)], (1, 16, 16), 0).draw(1)
    assert float(batch.noise) == pytest.approx(told[batch.scanner])


def test_networks_are_told_the_share_of_the_noise():
    few, many = (XRayScanner("s", s.geometry, s.grid, Noise(photons=(n, n))) for s in [drawn(2)] for n in (1e4, 1e6))
    scans = [generated_scan(s, 2) for s in (few, many)]
    told = [noise_told(NETWORK, scan, 1.0) for scan in scans]
    assert told[0] == pytest.approx(measured_noise(scans[0]).share)
    assert told[0] == pytest.approx(10 * told[1], rel=0.3)
    assert noise_told(NETWORK.model_copy(update={"follows_noise": False}), scans[0], 1.0) == USUAL_NOISE


def test_the_card_names_the_wider_domain():
    plan = TrainingPlan(size=SIZE, levels=VIEWS, n_objects=1, n_held_out=1, variety=True, network=NETWORK)
    card = model_card(plan, split_dataset(plan), Network(plan.network))
    assert card["domain"] == {
        "geometries": ["ConeBeam", "ParallelBeam"],
        "views": [15, 400],
        "views_per_voxel": [15 / SIZE, 400 / SIZE],
        "planes": [1, 1000],
        "photons": [3e4, 3e5],
    }
    scans = [generated_scan(drawn(seed), seed, variety=True) for seed in (0, 8)]
    assert {type(scan.geometry) for scan in scans} == {ConeBeam, ParallelBeam}
    assert not any("cone beam" in s or "planes" in s for scan in scans for s in outside(card, scan))


def test_operators_of_drawn_scanners_are_adjoint():
    for seed in (0, 2, 8):
        scan = generated_scan(drawn(seed), seed, variety=True)
        assert adjoint_error(build_physics(scan, "cpu")) < 1e-6


def test_variety_is_of_generated_scanners():
    with pytest.raises(ValueError, match="variety"):
        TrainingPlan(modality="image", variety=True)
    with pytest.raises(ValueError, match="variety"):
        TrainingPlan(method="dpir", variety=True)
