"""Scanners drawn widely, and networks that are told the noise."""

import math

import numpy as np
import pytest
import torch

from napari_unroll.events import result_of
from napari_unroll.methods.algorithms.network import USUAL_NOISE, Network, NetworkConfig
from napari_unroll.methods.classical.tv_objective import auto_strength
from napari_unroll.methods.networks.dncnn import DnCNNConfig
from napari_unroll.methods.networks.drunet import DRUNetConfig
from napari_unroll.methods.problem import Problem, measured
from napari_unroll.methods.steps.gradient import GradientStepConfig
from napari_unroll.methods.steps.start import first_estimate
from napari_unroll.normal.fit import FitOptions, fit_now
from napari_unroll.physics.build import build_physics
from napari_unroll.scan.kspace_noise import sample_deviation
from napari_unroll.scan.phantoms import brain
from napari_unroll.training.building import Operators, build, local_problems
from napari_unroll.training.card import model_card
from napari_unroll.training.dataset import split_dataset
from napari_unroll.training.plan import Noise, TrainingPlan
from napari_unroll.training.sampler import PatchSampler
from napari_unroll.training.samples import SampleStore, build_sample
from napari_unroll.training.scanners import generated_scan
from napari_unroll.training.start_from import grown
from napari_unroll.training.variety_mri import DrawnCoilScanner, recoloured, with_estimated_maps

NETWORK = NetworkConfig(
    prior=DRUNetConfig(dim=2, channels=(4, 4, 4, 4), complex_valued=True),
    data_step=GradientStepConfig(),
    n_iterations=2,
    start_iterations=2,
    follows_noise=True,
)


def drawn(seed, noise=(0.001, 0.05)):
    return DrawnCoilScanner(seed, 40, (2.0, 12.0), Noise(sigma=noise))


@pytest.fixture(scope="module")
def scans():
    return [generated_scan(drawn(seed), seed) for seed in range(8)]


def test_drawn_scanners_differ_in_everything(scans):
    assert len({scan.grid.shape for scan in scans}) == len({scan.grid.spacing_mm for scan in scans}) == 8
    assert len({scan.geometry.n_coils for scan in scans}) > 3
    accelerations = [scan.geometry.acceleration for scan in scans]
    assert min(accelerations) < 3 < 5 < max(accelerations) < 12.5
    assert {scan.grid.shape[0] > 1 for scan in scans} == {True, False}
    assert all(np.abs(scan.truth).max() > 0.3 for scan in scans)


def test_a_drawn_scanner_is_that_of_its_seed(scans):
    again = generated_scan(drawn(3), 3)
    np.testing.assert_array_equal(again.measurements, scans[3].measurements)


@pytest.mark.parametrize("seed", range(8))
def test_planes_are_taken_where_there_is_something_to_see(seed):
    scanner = drawn(seed)
    shape = scanner.object_grid.shape
    volume = np.zeros(shape, np.complex64)
    volume[-2:, shape[1] // 4 : -(shape[1] // 4), shape[2] // 4 : -(shape[2] // 4)] = 1
    assert np.abs(scanner.simulate(volume, seed).truth).max() > 0.1


def test_estimated_maps_show_the_same_measurements():
    """S_est x_est is S x where the maps are good: without noise and with every sample, but for the smooth phase."""
    scanner = DrawnCoilScanner(0, 40, (1.0, 1.0), Noise(sigma=(1e-6, 1e-6)))
    scan = scanner.simulate(brain(scanner.object_grid.shape, 0), 0)
    found = with_estimated_maps(scan) if scan.csm is not None else scan
    shown = build_physics(found, "cpu").A(torch.from_numpy(found.truth)[None, None])[0].numpy()
    error = np.linalg.norm(shown - scan.measurements) / np.linalg.norm(scan.measurements)
    assert error < 0.2


def test_contrasts_keep_the_background_dark_and_the_brightest_at_one():
    image = brain((4, 24, 24), 1)
    seen = [recoloured(image, np.random.default_rng(seed), seed) for seed in range(4)]
    assert all(np.abs(values).max() == pytest.approx(1, abs=0.25) for values in seen)
    assert all(np.abs(values[image == 0]).max() == 0 for values in seen)
    assert len({round(float(np.abs(values).mean()), 3) for values in seen}) == 4


def test_samples_know_the_noise_that_is_told(tmp_path):
    plan = TrainingPlan(
        modality="mri", size=40, levels=(2, 6), n_objects=2, n_held_out=1, variety=True, network=NETWORK
    )
    split, store = split_dataset(plan), SampleStore(tmp_path)
    assert len(split.scanners) == 3
    assert {spec.scanner for spec in split.held_out}.isdisjoint({spec.scanner for spec in split.training})
    list(build(store, split.training, local_problems(Operators(store, "cpu"), plan.network)))
    batch = PatchSampler([store.load(i) for i in range(2)], (1, 16, 16), 0).draw(1)
    assert batch.noise.shape == (1, 1, 1, 1, 1)
    assert float(batch.noise) == float(store.load(batch.scanner)[0]["noise"])


def test_samples_hold_the_noise_that_was_put_in_not_what_would_be_measured(scans):
    """Of one coil k-space cannot tell its noise from signal; a training knows it, and its network learns to follow it."""
    scan = max(scans, key=lambda scan: sample_deviation(scan).value / put_in(scan))
    assert sample_deviation(scan).value > 1.5 * put_in(scan)
    physics = build_physics(scan, "cpu")
    sample = build_sample(scan, physics, NETWORK, fit_now(physics, FitOptions(n_test=0)))
    scale = np.abs(scan.truth).max() / np.abs(sample["truth"]).max()
    assert float(sample["noise"]) == pytest.approx(put_in(scan) / scale, rel=1e-3)


def put_in(scan):
    """Deviation of the samples of a scan from those of its truth."""
    physics = build_physics(scan, "cpu")
    noise = measured(scan, "cpu") - physics.A(torch.from_numpy(scan.truth)[None, None])
    return float(noise.norm()) / math.sqrt(len(scan.csm) * scan.geometry.mask.sum())


def test_the_prior_is_told_more_where_the_scan_is_noisier():
    torch.manual_seed(0)
    network, x = Network(NETWORK), torch.randn(2, 1, 1, 16, 16, dtype=torch.complex64)
    usual = network.denoise(x, 0)
    torch.testing.assert_close(network.denoise(x, 0, 0.05), usual)  # no slope is learned yet
    with torch.no_grad():
        network.noise_slope.fill_(0.5)
    torch.testing.assert_close(network.denoise(x, 0, USUAL_NOISE), usual)
    both = network.denoise(x, 0, torch.tensor([USUAL_NOISE, 0.05]).reshape(2, 1, 1, 1, 1))
    torch.testing.assert_close(both[0], usual[0])
    torch.testing.assert_close(both[1], network.prior(0)(x[1:], network.sigma[0] + 0.5 * 4)[0])


def test_a_network_learns_to_follow_the_noise_from_what_it_was():
    torch.manual_seed(0)
    before = Network(NETWORK.model_copy(update={"follows_noise": False}))
    after, x = grown(before, NETWORK), torch.randn(1, 1, 1, 16, 16, dtype=torch.complex64)
    assert after.config.follows_noise
    torch.testing.assert_close(after.denoise(x, 1, 0.05), before.denoise(x, 1))


def test_only_conditioned_priors_are_told():
    with pytest.raises(ValueError, match="follows_noise"):
        NetworkConfig(prior=DnCNNConfig(), data_step=GradientStepConfig(), follows_noise=True)


def test_the_start_follows_the_noise(scans):
    scan = scans[2]
    physics = build_physics(scan, "cpu")
    factors = fit_now(physics, FitOptions(n_test=0))
    given = {"scan": scan, "physics": physics, "y": measured(scan, "cpu"), "normal": factors}
    usual, following = (result_of(first_estimate(Problem(**given), 3, flag)) for flag in (False, True))
    assert auto_strength(scan) < 0.01
    assert (usual != following).any()


def test_slices_are_scans_of_one_plane_that_train_a_flat_network(tmp_path):
    plan = TrainingPlan(modality="mri", size=40, levels=(2, 6), n_objects=3, n_held_out=1, variety=True, slices=True)
    assert plan.network.prior.neighbours == 0
    assert (plan.options.batch_size, plan.options.accumulate, plan.options.patch_size[0]) == (1, 4, 1)
    split = split_dataset(plan)
    assert {spec.make().grid.shape[0] for spec in split.training} == {1}
    assert split.key != split_dataset(plan.model_copy(update={"slices": False})).key
    assert model_card(plan, split, Network(plan.network))["domain"]["planes"] == [1, 1]


def test_slices_are_of_mri_with_variety():
    with pytest.raises(ValueError, match="slices are drawn for MRI"):
        TrainingPlan(modality="mri", slices=True)
    with pytest.raises(ValueError, match="slices are drawn for MRI"):
        TrainingPlan(modality="ct", variety=True, slices=True)


def test_a_network_of_slabs_begins_one_of_slices_as_what_it_does_to_equal_slices():
    torch.manual_seed(0)
    prior = NETWORK.prior.model_copy(update={"neighbours": 1})
    slabs = Network(NETWORK.model_copy(update={"prior": prior}))
    flat = grown(slabs, NETWORK, is_flat=True)
    assert flat.config.prior.neighbours == 0
    x = torch.randn(1, 1, 1, 16, 16, dtype=torch.complex64)
    torch.testing.assert_close(flat.denoise(x, 0), slabs.denoise(x.expand(1, 1, 3, 16, 16), 0)[:, :, 1:2])


def test_a_card_counts_many_scanners():
    plan = TrainingPlan(
        modality="mri", size=40, levels=(2, 6), n_objects=30, n_held_out=1, variety=True, network=NETWORK
    )
    card = model_card(plan, split_dataset(plan), Network(plan.network))
    assert card["trained_on"]["scanners"] == ["31, from drawn coils and mask 0 to drawn coils and mask 30"]
