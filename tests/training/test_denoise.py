"""Training denoisers: noise, levels, loss, samples without scans, validation, and a whole training."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_unroll.errors import Cancelled
from napari_unroll.events import Finished, IterationDone, Stop
from napari_unroll.interrupt import listening
from napari_unroll.methods.algorithms.network import Network, NetworkConfig
from napari_unroll.methods.networks.drunet import DRUNetConfig
from napari_unroll.methods.steps.scale import intensity_scale
from napari_unroll.methods.weights import find, load_network
from napari_unroll.training.building import clean_volumes
from napari_unroll.training.dataset import split_dataset
from napari_unroll.training.options import TrainOptions
from napari_unroll.training.plan import TrainingPlan
from napari_unroll.training.sampler import PatchSampler
from napari_unroll.training.session import train
from napari_unroll.training.symmetries import CUBE
from napari_unroll.training.tasks.denoise import DenoiseTask, noise_like
from napari_unroll.training.trainer import Trainer
from napari_unroll.training.validation import VALIDATION_SIGMA, NoisyVolumes

OPTIONS = TrainOptions(n_steps=60, patch_size=(8, 8, 8), batch_size=4, learning_rate=5e-3, warmup=2, ema=0.8,
                       log_every=1, precision="float32")  # fmt: skip
FLIPS = [s for s in CUBE if s.axes == (0, 1, 2)]


def network(dim=3, complex_valued=False):
    torch.manual_seed(0)
    prior = DRUNetConfig(dim=dim, channels=(4, 4, 8, 8), complex_valued=complex_valued)
    return Network(NetworkConfig(iteration="one-pass", prior=prior))


def identity(**more):
    """A denoiser that gives back what it is given: all its weights are zero."""
    made = network(**more)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.zero_()
    return made


def sampler(*volumes, patch=(8, 8, 8)):
    return PatchSampler([({"truth": v}, 0) for v in volumes], patch, 0, [FLIPS])


def blocks(shape=(16, 16, 16), dtype=np.float32, seed=0):
    """A piecewise constant volume between 0 and 1."""
    coarse = np.random.default_rng(seed).random([max(1, n // 4) for n in shape])
    volume = np.kron(coarse, np.ones([min(4, n) for n in shape]))
    return (volume * (np.exp(0.5j) if np.dtype(dtype).kind == "c" else 1)).astype(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_noise_is_white_with_unit_variance_per_channel(dtype):
    noise = noise_like(torch.zeros(40, 50, 60, dtype=dtype), 3)
    parts = torch.view_as_real(noise).movedim(-1, 0) if noise.is_complex() else noise[None]
    for part in parts:
        assert abs(float(part.var()) - 1) < 0.02
        assert abs(float((part[1:] * part[:-1]).mean())) < 0.01
    if noise.is_complex():
        assert abs(float((parts[0] * parts[1]).mean())) < 0.01
    assert torch.equal(noise, noise_like(noise, 3))


def test_levels_are_log_uniform_in_their_range():
    options = OPTIONS.model_copy(update={"noise_levels": (0.01, 0.16)})
    levels = DenoiseTask(sampler(blocks()), options)._levels(4000).flatten()
    assert 0.01 <= float(levels.min()) < float(levels.max()) <= 0.16
    assert float(levels.median()) == pytest.approx(0.04, rel=0.1)


@pytest.mark.parametrize(
    ("dtype", "expected"), [(np.float32, math.sqrt(2 / math.pi)), (np.complex64, math.sqrt(math.pi / 2))]
)
def test_the_loss_of_doing_nothing_is_the_mean_size_of_the_noise(dtype, expected):
    """At every level: each patch is divided by its own σ. E|n| is √(2/π), of complex n with unit parts √(π/2)."""
    task = DenoiseTask(sampler(blocks(dtype=dtype)), OPTIONS.model_copy(update={"batch_size": 64}))
    loss = task.loss(identity(complex_valued=np.dtype(dtype).kind == "c"), False)
    assert float(loss.detach()) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("shape", [(1, 8, 8), (8, 1, 8), (5, 7, 3)])
def test_patches_may_be_thin(shape):
    draws = sampler(blocks(), patch=shape)
    assert all(draws.draw_clean(3).shape == (3, 1, *shape) for _ in range(20))


@pytest.mark.parametrize("modality", ["ct", "mri", "image"])
def test_clean_volumes_are_the_truth_of_the_scan_without_the_scan(modality):
    plan = TrainingPlan(method="dpir", modality=modality, size=16, levels=(4,), n_objects=1, n_held_out=1)
    spec = split_dataset(plan).training[0]
    truth = torch.as_tensor(spec.make().truth)
    expected = truth / intensity_scale(truth[None, None])

    def unwanted():
        raise AssertionError("a scan was made")

    clean = clean_volumes(replace(spec, make=unwanted))["truth"]
    np.testing.assert_allclose(clean, expected.numpy(), rtol=1e-5, atol=1e-6)


def test_validation_in_windows_is_the_denoiser_on_the_whole_volume():
    """Of slices exactly, wherever windows begin and end along z."""
    torch.manual_seed(0)
    volume, made = blocks((100, 12, 16)), network(dim=2)
    judge = NoisyVolumes([volume])
    with torch.no_grad():
        whole = made.prior(0)(judge.noisy[0], VALIDATION_SIGMA)[0, 0].numpy()
    figures = judge(made).metrics
    mse = np.mean((whole - volume) ** 2)
    assert figures["psnr"] == pytest.approx(10 * np.log10(volume.max() ** 2 / mse), abs=1e-3)
    assert figures["psnr_start"] == pytest.approx(10 * np.log10((volume.max() / VALIDATION_SIGMA) ** 2), abs=0.1)


def test_validation_can_be_cancelled():
    stop = Stop()
    stop.cancel()
    validate = NoisyVolumes([blocks()])
    with pytest.raises(Cancelled), listening(stop):
        validate(identity())


@pytest.mark.parametrize("dtype", [np.float32, np.complex64])
def test_training_makes_a_denoiser(dtype):
    volumes = [blocks(dtype=dtype, seed=s) for s in range(4)]
    judge = NoisyVolumes([blocks(dtype=dtype, seed=9)])
    made = network(complex_valued=np.dtype(dtype).kind == "c")
    options = OPTIONS.model_copy(update={"noise_levels": (VALIDATION_SIGMA, VALIDATION_SIGMA)})
    *_, last = Trainer(made, DenoiseTask(sampler(*volumes), options), options).run()
    figures = judge(last.result).metrics
    assert figures["psnr"] > figures["psnr_start"] + 0.8


def test_a_denoiser_is_trained_from_a_plan_and_goes_on(tmp_path):
    options = {"n_steps": 3, "patch_size": (8, 8, 8), "batch_size": 1, "log_every": 1, "validation_share": 1}
    asked = {"method": "dpir", "size": 16, "n_objects": 2, "n_held_out": 1}
    plan = TrainingPlan(**asked, network={"prior": {"channels": (4, 4, 4, 4)}}, options=options)
    assert plan.task == "denoise"
    *_, last = train(plan, tmp_path, "cpu")
    assert isinstance(last, Finished)
    assert last.result is not None, last.advice
    found, card = find(str(last.result)), json.loads(last.result.with_suffix(".json").read_text())
    assert (found.method, found.modality, card["task"]) == ("dpir", "ct", "denoise")
    assert card["noise"].startswith("white Gaussian on the volumes, σ of 0.005 to 0.2")
    assert load_network(found.path).config.iteration == "one-pass"
    longer = plan.model_copy(update={"options": plan.options.model_copy(update={"n_steps": 5})})
    steps = [e.iteration for e in train(longer, tmp_path, "cpu") if isinstance(e, IterationDone)]
    assert steps[0] == 4
