"""A whole training: from plan to weights with their card, resumed, stopped, on volumes and scanners of one's own."""

import itertools
import json
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
import torch

from napari_unroll.errors import ParameterError, UnrollError, WeightsError
from napari_unroll.events import Finished, IterationDone, Outcome, Pictures, Progress, Started, Stop, Warned
from napari_unroll.io.scan_file import write_scan
from napari_unroll.methods.algorithms.iterations import State
from napari_unroll.methods.algorithms.network import Network, NetworkConfig
from napari_unroll.methods.networks.dncnn import DnCNNConfig
from napari_unroll.methods.networks.drunet import DRUNetConfig
from napari_unroll.methods.weights import find, load_network, save_network
from napari_unroll.physics.samples import sample_super_resolution
from napari_unroll.pipeline.params import build, from_yaml, to_yaml
from napari_unroll.training.dataset import split_dataset
from napari_unroll.training.objects import FIRST_HELD_OUT
from napari_unroll.training.plan import TrainingPlan
from napari_unroll.training.samples import SampleStore
from napari_unroll.training.scanners import cone_beam_scanner, generated_scan, multi_coil_scanner
from napari_unroll.training.session import PLAN, train
from napari_unroll.training.start_from import with_initial
from tests.methods.operators import Plain

NETWORK = {"prior": {"channels": (4, 4, 4, 4)}, "n_iterations": 1, "start_iterations": 2}
OPTIONS = {"n_steps": 4, "patch_size": (8, 8, 8), "log_every": 1, "validate_every": 2, "validation_share": 1.0}
TINY = {"size": 12, "levels": (6,), "n_objects": 2, "n_held_out": 1, "network": NETWORK, "options": OPTIONS}


def plan(**more):
    return TrainingPlan(**TINY | more)


def last_of(events):
    *_, last = events
    assert isinstance(last, Finished)
    return last


def test_a_plan_completes_itself_and_survives_yaml():
    mri = TrainingPlan(modality="mri", network={"n_iterations": 2})
    assert mri.network.prior.complex_valued
    assert (mri.network.n_iterations, mri.network.data_step.preconditioner, mri.network.start_iterations) == (
        2,
        0.2,
        60,
    )
    assert (mri.network.data_step.degree, mri.network.final_step) == (3, True)
    assert (mri.network.prior.dim, mri.network.prior.neighbours) == (2, 2)
    assert TrainingPlan(modality="mri", network={"prior": {"dim": 3}}).network.prior.dim == 3
    assert not TrainingPlan(method="drunet").network.has_data_steps
    assert TrainingPlan(method="unet").network.prior.kind == "unet"
    assert TrainingPlan(network={"prior": {"kind": "unet"}}).network.prior.channels == (16, 32, 64, 128)
    with pytest.raises(ParameterError, match=r"method must be one whose network is trained.*got 'fdk'"):
        build(TrainingPlan, {"method": "fdk"})
    assert from_yaml(TrainingPlan, to_yaml(mri)) == mri
    with pytest.raises(ParameterError, match="whole"):
        build(TrainingPlan, {"levels": (3.5,)})
    with pytest.raises(ParameterError, match="used as they are"):
        build(TrainingPlan, {"scans": "a", "volumes": "b"})


def test_training_tells_its_stages_and_writes_weights_with_their_card(tmp_path):
    events = list(train(plan(licence="CC0-1.0"), tmp_path, "cpu"))
    assert isinstance(events[0], Started)
    texts = list(dict.fromkeys(e.text for e in events if isinstance(e, Progress)))
    assert [t for t in texts if not t.startswith("quick")] == [
        "looking at the data",
        "building training samples",
        "preparing held-out scans",
        "measuring on held-out scans",
        "training",
    ]
    steps = [e for e in events if isinstance(e, IterationDone) and "loss" in e.metrics]
    assert [e.iteration for e in steps] == [1, 2, 3, 4]
    assert {"seconds_per_step", "peak_memory_bytes"} <= set(steps[0].metrics)
    figures = [e.metrics for e in events if isinstance(e, IterationDone) and "psnr" in e.metrics]
    assert len(figures) == len([e for e in events if isinstance(e, Pictures)]) == 3
    picture = next(e for e in events if isinstance(e, Pictures))
    assert {name: v.shape for name, v in picture.images.items()} == dict.fromkeys(
        ("truth", "before", "after"), (12, 12)
    )
    finished = events[-1]
    assert finished.outcome is Outcome.COMPLETED
    assert finished.result == tmp_path / "trained.safetensors"
    found = find(str(finished.result))
    assert found.card["sha256"] == found.sha256
    assert found.card["licence"] == "CC0-1.0"
    assert found.card["domain"]["geometries"] == ["ConeBeam"]
    assert found.card["psnr_after"] == max(f["psnr"] for f in figures[1:])
    assert found.card["psnr_before"]["start"] == figures[0]["psnr_start"]


def test_the_same_call_goes_on_and_another_plan_is_refused(tmp_path):
    events = train(plan(), tmp_path, "cpu")
    list(itertools.takewhile(lambda e: not (isinstance(e, IterationDone) and e.iteration == 3), events))
    events.close()
    again = list(train(plan(), tmp_path, "cpu"))
    steps = [e.iteration for e in again if isinstance(e, IterationDone) and "loss" in e.metrics]
    assert steps[-1] == 4
    assert steps[0] > 1
    other = last_of(train(plan(levels=(7,)), tmp_path, "cpu"))
    assert other.outcome is Outcome.FAILED
    assert "another levels" in other.advice


def test_a_killed_build_keeps_its_samples(tmp_path):
    events = train(plan(), tmp_path, "cpu")
    list(itertools.takewhile(lambda e: not (isinstance(e, Progress) and "samples" in e.text and e.step), events))
    events.close()
    made = next((tmp_path / "samples").glob("*/samples.zarr/00000/zarr.json"))
    before = made.stat().st_mtime_ns
    assert last_of(train(plan(), tmp_path, "cpu")).result
    assert made.stat().st_mtime_ns == before


def test_stop_keeps_the_best_and_cancel_keeps_the_state(tmp_path):
    stop = Stop()
    for event in train(plan(options=OPTIONS | {"n_steps": 1000}), tmp_path, "cpu", stop):
        if isinstance(event, IterationDone) and event.iteration == 2:
            stop.finish()
    assert event.outcome is Outcome.FINISHED_EARLY
    assert event.result.is_file()
    stop = Stop()
    for event in train(plan(options=OPTIONS | {"n_steps": 1000}), tmp_path, "cpu", stop):
        if isinstance(event, IterationDone) and "loss" in event.metrics:
            stop.cancel()
    assert (event.outcome, event.result) == (Outcome.CANCELLED, None)
    assert (tmp_path / "training.state").is_file()


def test_training_goes_on_from_weights_and_never_keeps_worse(tmp_path):
    first = last_of(train(plan(), tmp_path / "a", "cpu")).result
    options = OPTIONS | {"learning_rate": 30.0, "n_steps": 2, "ema": 0.0, "warmup": 0}
    second = last_of(train(plan(initial=str(first), network={}, options=options), tmp_path / "b", "cpu"))
    card = json.loads(second.result.with_suffix(".json").read_text())
    assert card["steps"] == 0
    assert card["psnr_before"]["initial weights"] == pytest.approx(card["psnr_after"])
    assert load_network(second.result).config == load_network(first).config
    wrong = last_of(train(plan(initial=str(first), modality="mri", levels=(2,)), tmp_path / "c", "cpu"))
    assert "choose the modality of the weights" in wrong.advice


def test_a_flat_network_begins_a_thick_one(tmp_path):
    flat = NETWORK | {"prior": {"channels": (4, 4, 4, 4), "dim": 2, "neighbours": 0}}
    first = last_of(train(plan(network=flat, options=OPTIONS | {"n_steps": 1}), tmp_path / "a", "cpu")).result
    thick = last_of(train(plan(initial=str(first), network={}), tmp_path / "b", "cpu")).result
    assert (load_network(first).config.prior.dim, load_network(thick).config.prior.dim) == (2, 3)


def test_initial_weights_grow_to_what_the_network_asks_for(tmp_path):
    torch.manual_seed(0)
    small = Network(NetworkConfig(prior=DRUNetConfig(dim=2, channels=(4, 4, 4, 4)), n_iterations=2))
    save_network(small, tmp_path / "small.safetensors", "unrolled-pgd")
    start = {"initial": str(tmp_path / "small.safetensors")}
    same, network = with_initial(plan(**start, network={"prior": {"dim": 2}}))
    assert same.network == network.config == small.config
    more = {"n_iterations": 3, "n_priors": 2, "prior": {"dim": 2, "neighbours": 1}}
    asked, network = with_initial(plan(**start, network=more))
    assert (asked.network.n_iterations, asked.network.prior.neighbours) == (3, 1)
    assert len(network.priors) == asked.network.n_priors == 2
    x, source = torch.randn(1, 1, 4, 8, 8), Plain(lambda u: u)
    before, after = small(x, source).iterates, network(x, source).iterates
    torch.testing.assert_close(after[:2], before)
    torch.testing.assert_close(after[2], small.step(State(before[1]), 1, source).x)


def test_weights_of_another_method_lend_their_prior(tmp_path):
    """A denoiser begins an unrolled network, and the other way round."""
    torch.manual_seed(0)
    prior = DRUNetConfig(dim=2, channels=(4, 4, 4, 4))
    denoiser, unrolled = Network(NetworkConfig(iteration="one-pass", prior=prior)), Network(NetworkConfig(prior=prior))
    x = torch.randn(1, 1, 4, 8, 8)
    for network, method, other in ((denoiser, "dpir", "unrolled-pgd"), (unrolled, "unrolled-pgd", "dpir")):
        save_network(network, tmp_path / f"{method}.safetensors", method)
        own = TrainingPlan(**TINY | {"method": other, "network": {}}).network
        flat = {"prior": {"dim": 2}}
        asked, lent = with_initial(plan(method=other, initial=str(tmp_path / f"{method}.safetensors"), network=flat))
        assert asked.network == lent.config == own.model_copy(update={"prior": prior})
        torch.testing.assert_close(lent.prior(0)(x, 0.1), network.prior(0)(x, 0.1))
    _, thick = with_initial(plan(method="dpir", initial=str(tmp_path / "unrolled-pgd.safetensors"), network={}))
    assert thick.config.prior.dim == 3


def test_a_prior_that_a_method_cannot_have_is_refused_in_words(tmp_path):
    """DEQ4IP normalises the layers of its prior, which a DRUNet has too many kinds of; a DnCNN lends its layers."""
    for prior in (DRUNetConfig(channels=(4, 4, 4, 4)), DnCNNConfig(width=4, layers=3)):
        path = tmp_path / f"{prior.kind}.safetensors"
        save_network(Network(NetworkConfig(prior=prior)), path, "lu-dncnn")
        lent = plan(method="deq4ip", initial=str(path), network={})
        if prior.kind == "drunet":
            with pytest.raises(WeightsError, match="layers of a DRUNet cannot be normalised"):
                with_initial(lent)
        else:
            assert with_initial(lent)[1].config.prior == prior


def test_weights_are_stored_as_asked_for(tmp_path):
    whole, half = (last_of(train(plan(stored=t), tmp_path / t, "cpu")).result for t in ("float32", "float16"))
    assert half.stat().st_size < 0.7 * whole.stat().st_size
    for name, value in load_network(half).state_dict().items():
        torch.testing.assert_close(value, load_network(whole).state_dict()[name], rtol=5e-4, atol=1e-6)


def test_priors_of_their_own_begin_as_the_shared_one(tmp_path):
    torch.manual_seed(0)
    shared = Network(NetworkConfig(prior=DRUNetConfig(dim=2, channels=(4, 4, 4, 4)), n_iterations=3))
    save_network(shared, tmp_path / "shared.safetensors", "unrolled-pgd")
    asked, own = with_initial(plan(initial=str(tmp_path / "shared.safetensors"), network={"n_priors": 3}))
    assert (asked.network.n_iterations, asked.network.n_priors, len(own.priors)) == (3, 3, 3)
    x, source = torch.randn(1, 1, 4, 8, 8), Plain(lambda u: u)
    torch.testing.assert_close(own(x, source).iterates, shared(x, source).iterates)


@pytest.mark.parametrize("more", [{"n_iterations": 4}, {"n_priors": 3}])
def test_a_network_of_several_priors_grows_without_mixing_them(tmp_path, more):
    torch.manual_seed(0)
    first = Network(NetworkConfig(prior=DRUNetConfig(dim=2, channels=(4, 4, 4, 4)), n_iterations=3, n_priors=2))
    save_network(first, tmp_path / "first.safetensors", "unrolled-pgd")
    _, grown = with_initial(plan(initial=str(tmp_path / "first.safetensors"), network=more))
    x, source = torch.randn(1, 1, 4, 8, 8), Plain(lambda u: u)
    before, after = first(x, source).iterates, grown(x, source).iterates
    torch.testing.assert_close(after[:3], before)
    assert len(grown.priors) == grown.n_iterations == len(after)


def test_figures_go_to_tensorboard_where_it_is_installed(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    list(train(plan(), tmp_path, "cpu"))
    board = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert {"loss", "psnr", "seconds_per_step"} <= set(board.Tags()["scalars"])
    lines = [json.loads(line) for line in (tmp_path / "training.log.jsonl").read_text().splitlines()]
    logged = {line["step"]: line["loss"] for line in lines if "loss" in line}
    assert {e.step: e.value for e in board.Scalars("loss")} == pytest.approx(logged)


def test_a_scanner_whose_objects_do_not_fit_is_refused_before_anything_runs(tmp_path, monkeypatch):
    scan = generated_scan(cone_beam_scanner(12, 6), 0)
    write_scan(tmp_path / "scan.h5", scan)
    free = SimpleNamespace(available=4 * 6 * 24**3 - 1)
    monkeypatch.setattr("napari_unroll.training.scanners.psutil.virtual_memory", lambda: free)
    with pytest.raises(ParameterError, match=r"24×24×24 voxels.*larger voxels"):
        split_dataset(plan(scanner=str(tmp_path / "scan.h5"), levels=None))


def test_patience_ends_training(tmp_path):
    options = OPTIONS | {"learning_rate": 1e-12, "n_steps": 500, "patience": 2, "validate_every": 1, "ema": 0.0}
    events = list(train(plan(options=options), tmp_path, "cpu"))
    assert max(e.iteration for e in events if isinstance(e, IterationDone)) < 20


def test_volumes_of_a_folder_are_split_by_file(tmp_path):
    rng = np.random.default_rng(0)
    for k in range(3):
        tifffile.imwrite(tmp_path / f"v{k}.tif", rng.random((9, 10, 11)).astype(np.float32) * (k + 1))
    split = split_dataset(plan(volumes=str(tmp_path), n_objects=3))
    assert [spec.name.split()[-1] for spec in split.training] == ["0", "1", "2"]
    assert split.held_out[0].name.endswith(str(FIRST_HELD_OUT))
    assert split.training[0].make().truth.max() > 0
    with pytest.raises(ParameterError, match="holds 3 volumes"):
        split_dataset(plan(volumes=str(tmp_path), n_held_out=3))
    failed = last_of(train(plan(volumes=str(tmp_path / "none")), tmp_path / "out", "cpu"))
    assert failed.outcome is Outcome.FAILED
    assert "no folder" in failed.advice


def test_the_users_scanner_is_the_protocol(tmp_path):
    scan = generated_scan(cone_beam_scanner(12, 10), 3)
    write_scan(tmp_path / "mine.h5", scan)
    made = [spec.make() for spec in split_dataset(plan(scanner=str(tmp_path / "mine.h5"), levels=None)).training]
    assert made[0].fingerprint() == scan.fingerprint()
    assert float(made[0].measurements.max()) == pytest.approx(float(scan.measurements.max()), rel=0.3)
    few = split_dataset(plan(scanner=str(tmp_path / "mine.h5"), levels=(5,))).training[0].make()
    assert few.measurements.shape[0] == 5
    coils = generated_scan(multi_coil_scanner((4, 12, 12), 2, n_coils=2), 3)
    write_scan(tmp_path / "coils.h5", coils)
    mri = {"modality": "mri", "scanner": str(tmp_path / "coils.h5")}
    made = split_dataset(plan(levels=None, **mri)).training[0].make()
    np.testing.assert_array_equal(made.csm, coils.csm)
    with pytest.raises(UnrollError, match="is a MRI scan"):
        split_dataset(plan(scanner=str(tmp_path / "coils.h5")))


def test_scan_files_with_truth_are_used_as_they_are(tmp_path):
    for k in range(2):
        write_scan(tmp_path / f"s{k}.h5", generated_scan(cone_beam_scanner(12, 6), k))
    split = split_dataset(plan(scans=str(tmp_path)))
    assert [len(split.scanners), len(split.training), len(split.held_out)] == [1, 1, 1]
    assert last_of(train(plan(scans=str(tmp_path)), tmp_path / "out", "cpu")).result


def test_image_plans_see_slices_and_know_blur_and_downsampling(tmp_path):
    made = TrainingPlan(modality="image", size=24)
    assert (made.network.prior.dim, made.network.prior.neighbours, made.network.prior.complex_valued) == (2, 0, False)
    assert made.options.patch_size[0] == 1
    specs = split_dataset(made).training
    deblur, enlarge = specs[0].make(), specs[1].make()
    assert (deblur.modality, deblur.geometry.factor) == ("image", (1, 1, 1))
    assert (enlarge.geometry.factor, enlarge.grid.shape) == ((1, 3, 3), (1, 24, 24))
    assert deblur.truth.shape == (1, 24, 24)
    assert (deblur.truth != enlarge.truth).any()
    with pytest.raises(ParameterError, match="whole"):
        build(TrainingPlan, {"modality": "image", "levels": (1.5,)})


def test_a_network_for_images_is_trained_like_any_other(tmp_path):
    network = {"prior": {"channels": (4, 4, 8, 8)}, "n_iterations": 2, "start_iterations": 0}
    asked = {"modality": "image", "size": 24, "levels": None, "network": network}
    asked["options"] = OPTIONS | {"patch_size": (1, 16, 16)}
    finished = last_of(train(plan(**asked), tmp_path, "cpu"))
    assert finished.outcome is Outcome.COMPLETED, finished.advice
    found = find(str(finished.result))
    assert (found.modality, found.config.prior.dim) == ("image", 2)
    assert "brightest voxel" in found.card["noise"]


def test_the_scanner_of_an_image_is_its_blur(tmp_path):
    scan = sample_super_resolution((1, 24, 21))
    write_scan(tmp_path / "small.h5", scan)
    made = split_dataset(plan(modality="image", scanner=str(tmp_path / "small.h5"), levels=None)).training[0].make()
    assert made.geometry == scan.geometry
    with pytest.raises(ParameterError, match="leave them out"):
        split_dataset(plan(modality="image", scanner=str(tmp_path / "small.h5"), levels=(3,)))


def test_the_seconds_of_a_training_cover_the_making_of_its_samples(tmp_path):
    finished = last_of(
        train(plan(n_objects=5000, options=OPTIONS | {"n_steps": 10**6, "max_seconds": 8.0}), tmp_path, "cpu")
    )
    assert finished.outcome is Outcome.COMPLETED, finished.advice
    assert finished.result.is_file()
    assert len(SampleStore(next((tmp_path / "samples").iterdir()))) < 5000


def test_a_damaged_plan_is_told(tmp_path):
    list(train(plan(), tmp_path, "cpu"))
    (tmp_path / PLAN).write_text("{")
    events = list(train(plan(), tmp_path, "cpu"))
    assert any(isinstance(e, Warned) and "plan.json is damaged" in e.text for e in events)
    assert events[-1].outcome is Outcome.COMPLETED


def test_two_trainings_in_one_folder_are_one_too_many(tmp_path):
    events = train(plan(), tmp_path, "cpu")
    while not isinstance(next(events), Progress):
        pass
    second = last_of(train(plan(), tmp_path, "cpu"))
    assert second.outcome is Outcome.FAILED
    assert "being written by another process" in second.advice
    events.close()
    assert isinstance(next(train(plan(), tmp_path, "cpu")), Started)
