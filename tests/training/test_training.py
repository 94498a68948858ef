"""Training on local problems: samples, the context identity, the loop, stop and resume."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from napari_unroll.errors import Cancelled, ParameterError, UnrollError, WeightsError
from napari_unroll.events import Finished, IterationDone, Outcome, Progress, Stop, Warned, result_of
from napari_unroll.methods.algorithms.network import Network, NetworkConfig
from napari_unroll.methods.algorithms.reconstruct import UnrolledParams, reconstruct
from napari_unroll.methods.networks.drunet import DRUNetConfig
from napari_unroll.methods.problem import Problem, as_values
from napari_unroll.methods.steps.gradient import GradientStepConfig
from napari_unroll.methods.steps.scale import intensity_scale
from napari_unroll.methods.steps.start import first_estimate
from napari_unroll.normal.fit import FitOptions, fit_now
from napari_unroll.patches.context import ExactNormal
from napari_unroll.physics.build import build_physics
from napari_unroll.scan.phantoms import HELD_OUT_SEED
from napari_unroll.training import trainer as training_loop
from napari_unroll.training.building import Operators, SamplePool, build, local_problems
from napari_unroll.training.contexts import Contexts, Trajectory, true_context
from napari_unroll.training.dataset import split_dataset
from napari_unroll.training.options import TrainOptions
from napari_unroll.training.plan import TrainingPlan
from napari_unroll.training.precision import low_precision
from napari_unroll.training.sampler import Batch, PatchSampler
from napari_unroll.training.samples import SampleStore
from napari_unroll.training.scanners import cone_beam_scanner, generated_scan, multi_coil_scanner
from napari_unroll.training.tasks.patch import InContext, PatchTask
from napari_unroll.training.trainer import Trainer, new_network, schedule
from napari_unroll.training.validation import Validation

PRIOR, STEP = DRUNetConfig(channels=(4, 4, 8, 8)), GradientStepConfig(preconditioner=0.2, substeps=2)
CONFIG = NetworkConfig(prior=PRIOR, data_step=STEP, n_iterations=2, start_iterations=3)
OPTIONS = TrainOptions(
    n_steps=6, patch_size=(8, 8, 8), log_every=1, validate_every=3, warmup=1, validation_share=1, precision="float32"
)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    store = SampleStore(tmp_path_factory.mktemp("samples"))
    split = split_dataset(TrainingPlan(size=16, levels=(8, 12), n_objects=4, network=CONFIG))
    *_, last = build(store, split.training, local_problems(Operators(store, "cpu"), CONFIG))
    assert (last.step, last.n_steps) == (4, 4)
    return store


def sampler(store, seed=0):
    return PatchSampler([store.load(i) for i in range(len(store))], (8, 8, 8), seed)


def task(store, options=OPTIONS, **more):
    return PatchTask(sampler(store), store.scanners(), options, **more)


def trainer(store, state=None, options=OPTIONS, validate=None, **more):
    return Trainer(new_network(CONFIG, options.seed), task(store, options, **more), options, validate, state)


def operators(*views):
    return [build_physics(generated_scan(cone_beam_scanner(16, v), 0), "cpu") for v in views]


def test_samples_hold_volumes_and_their_residual_images(store):
    sample, scanner = store.load(1)
    scan = generated_scan(cone_beam_scanner(16, 12), 1)
    physics = build_physics(scan, "cpu")
    x, start = (torch.from_numpy(sample[n])[None, None] for n in ("truth", "start"))
    difference = physics.A_adjoint(physics.A(x - start))[0, 0].numpy()
    np.testing.assert_allclose(sample["residual_start"] - sample["residual_truth"], difference, rtol=1e-3, atol=1e-2)
    assert scanner == 1
    assert len(store) == 4


def test_the_start_is_better_than_filtered_back_projection(store):
    sample, _ = store.load(0)
    scan = generated_scan(cone_beam_scanner(16, 8), 0)
    physics = build_physics(scan, "cpu")
    quick = physics.A_dagger(torch.from_numpy(scan.measurements)[None, None])[0, 0].numpy()
    scale = scan.truth.max() / sample["truth"].max()
    assert np.linalg.norm(sample["start"] * scale - scan.truth) < np.linalg.norm(quick - scan.truth)


def test_an_exact_operator_makes_the_same_gradient_in_every_context(store):
    """With N exact on the whole volume the gradient at u is N u − Aᴴy, whatever the context."""
    scan = generated_scan(multi_coil_scanner((4, 12, 12), 2, n_coils=2), 0)
    physics = build_physics(scan, "cpu")
    factors = fit_now(physics, FitOptions(n_test=0))
    y = torch.from_numpy(scan.measurements)[None]
    truth = torch.from_numpy(scan.truth)[None, None]
    start = physics.A_dagger(y)
    contexts = [truth, torch.lerp(truth, start, 0.4), start]
    residuals = [physics.A_adjoint(y - physics.A(v)) for v in contexts]
    batch = Batch(0, [(slice(0, 4), slice(0, 12), slice(0, 12))], truth, start, contexts, residuals)
    source = InContext(batch, factors, factors)
    u = torch.randn_like(truth)
    expected = physics.A_adjoint(physics.A(u) - y)
    for k in range(4):  # the last context stands for later iterations
        torch.testing.assert_close(source.at(u, k).gradient(u), expected, rtol=1e-4, atol=1e-4)


def test_trajectories_are_the_iterates_of_a_reconstruction(store):
    """And their residual images are Aᴴ(y − A x_k)."""
    scan = generated_scan(cone_beam_scanner(16, 12), 1)
    volumes, scanner = store.load(1)
    factors = store.scanners()
    physics = operators(8, 12)
    torch.manual_seed(0)
    network = Network(CONFIG)
    contexts, residuals = Trajectory(network, physics, factors)(volumes, scanner)
    y = torch.from_numpy(scan.measurements)[None, None]
    problem = Problem(scan=scan, physics=physics[1], y=y, normal=factors[1])
    start = result_of(first_estimate(problem, CONFIG.start_iterations))
    events = list(reconstruct(problem, UnrolledParams(self_ensemble=False), network, start))
    iterates = [as_values(start), *(e.values for e in events if isinstance(e, IterationDone))]
    scale = intensity_scale(start)
    assert len(contexts) == len(residuals) == CONFIG.n_iterations
    for k in range(CONFIG.n_iterations):
        np.testing.assert_allclose(contexts[k] * scale, iterates[k], atol=1e-4 * np.abs(iterates[k]).max())
        x = torch.from_numpy(contexts[k])[None, None] * scale
        expected = physics[1].A_adjoint(y - physics[1].A(x))[0, 0].numpy()
        np.testing.assert_allclose(residuals[k] * scale, expected, atol=2e-3 * np.abs(expected).max())


def test_costly_contexts_are_used_several_times(store):
    made = []

    def make(volumes, scanner):
        made.append(scanner)
        return true_context(volumes, scanner)

    draws = sampler(store, 3)
    drawn = [draws.draw(1, "cpu", Contexts(make, 2, 5)).scanner for _ in range(60)]
    for scanner in (0, 1):
        n = drawn.count(scanner)
        assert n / 5 <= made.count(scanner) <= n / 5 + 2


def test_batches_are_cut_at_the_same_place_from_every_part(store):
    draw = sampler(store, 5).draw(3)
    parts = {"truth": draw.truth, "start": draw.start, "residual_truth": draw.residuals[0]}
    assert all(values.shape == (3, 1, 8, 8, 8) for values in parts.values())
    assert torch.equal(draw.contexts[0], draw.truth)
    samples = [s for s, p in (store.load(i) for i in range(len(store))) if p == draw.scanner]
    for j, box in enumerate(draw.boxes):
        assert any(
            all(np.array_equal(values[j, 0].numpy(), s[name][box]) for name, values in parts.items()) for s in samples
        )


def error(network, spec, store):
    """Mean squared error over the same patches, every time."""
    draws = sampler(store, 7)
    total = 0.0
    for _ in range(12):
        batch = draws.draw(1)
        factors = spec.task.factors[batch.scanner]
        with torch.no_grad():
            out = network(batch.start, InContext(batch, factors, factors)).iterates[-1]
        total += float((out - batch.truth).square().mean())
    return total


@pytest.mark.parametrize("context", ["truth", "trajectory"])
def test_training_lowers_the_error(store, context):
    options = TrainOptions(
        n_steps=200, patch_size=(16, 16, 16), log_every=1, validate_every=500, warmup=5, learning_rate=3e-3, ema=0.9,
        context=context,
    )  # fmt: skip
    physics = operators(8, 12)
    spec = trainer(store, options=options, physics=physics)
    before = error(spec.network, spec, store)
    *_, last = spec.run()
    assert last.outcome is Outcome.COMPLETED
    assert len(last.history) == 200
    after = error(last.result, spec, store)
    assert after < 0.95 * before


def test_a_killed_training_goes_on_as_if_nothing_had_happened(store, tmp_path):
    whole = trainer(store)
    list(whole.run())
    first = trainer(store, tmp_path / "run.state")
    events = first.run()
    list(itertools.takewhile(lambda e: not (isinstance(e, IterationDone) and e.iteration == 5), events))
    events.close()
    second = trainer(store, tmp_path / "run.state")
    *_, last = second.run()
    assert isinstance(last, Finished)
    assert second.step == 6
    for a, b in zip(whole.network.parameters(), second.network.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_stop_keeps_the_best_and_cancel_raises(store, tmp_path):
    stop, kept = Stop(), []
    spec = trainer(store, tmp_path / "a.state", validate=lambda net: Validation({"psnr": 1.0}, {}))
    spec.keep = lambda network, metrics: kept.append((spec.step, metrics.get("psnr")))
    events = spec.run(stop)
    for event in events:
        if isinstance(event, IterationDone) and "loss" in event.metrics:
            stop.finish()
    assert event.outcome is Outcome.FINISHED_EARLY
    assert kept == [(1, None)]  # the random network it began with was no result, this one was not measured yet
    kept.clear()
    spec = trainer(store, validate=lambda net: Validation({"psnr": float(spec.step)}, {}))
    spec.keep = lambda network, metrics: kept.append((spec.step, metrics["psnr"]))
    list(spec.run())
    assert kept == [(3, 3.0), (6, 6.0)]
    stop = Stop()
    stop.cancel()
    with pytest.raises(Cancelled):
        list(trainer(store).run(stop))


def test_a_state_of_another_network_is_refused_in_words(store, tmp_path):
    torch.save({"step": 3}, tmp_path / "other.state")
    with pytest.raises(WeightsError, match="no training state"):
        list(trainer(store, tmp_path / "other.state").run())


def test_a_damaged_state_is_never_believed_and_the_one_before_is_taken(store, tmp_path):
    path = tmp_path / "training.state"
    list(trainer(store, path).run())
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    spec = trainer(store, path)
    warnings = [e.text for e in spec.run() if isinstance(e, Warned)]
    assert warnings == [f"training.state is damaged; going on from step {warnings[0].split()[-1]}"]
    path.write_bytes(b"half")
    path.with_name("training.state.previous").write_bytes(b"")
    events = list(trainer(store, path).run())
    assert any(isinstance(e, Warned) and "begins anew" in e.text for e in events)
    assert events[-1].outcome is Outcome.COMPLETED


def test_a_damaged_sample_is_built_again(tmp_path):
    store = SampleStore(tmp_path)
    specs = [SimpleNamespace(scanner=0)] * 2
    make = lambda spec: {"truth": np.arange(8, dtype=np.float32).reshape(2, 2, 2)}  # noqa: E731
    list(build(store, specs, make))
    chunk = next(p for p in (store._path(1) / "truth").rglob("*") if p.is_file() and p.name != "zarr.json")
    content = bytearray(chunk.read_bytes())
    content[-5] ^= 1
    chunk.write_bytes(content)
    with pytest.raises(UnrollError, match="damaged"):
        store.load(1)
    warnings = [e.text for e in build(store, specs, make) if isinstance(e, Warned)]
    assert warnings == ["Training sample 1 is damaged; it is built again."]
    np.testing.assert_array_equal(store.load(1)[0]["truth"], store.load(0)[0]["truth"])


def test_a_damaged_scanner_is_not_there(store, tmp_path):
    kept = SampleStore(tmp_path)
    kept.add_scanner(store.scanner(0), 0)
    assert Operators(kept, "cpu").is_known(0)
    path = tmp_path / "scanner-0.json"
    path.write_text(path.read_text().replace("false", "true", 1))
    assert not Operators(kept, "cpu").is_known(0)


def test_seeds_of_evaluations_are_refused():
    with pytest.raises(ParameterError, match="held out"):
        generated_scan(cone_beam_scanner(16, 4), HELD_OUT_SEED)


def test_schedule_rises_then_falls():
    assert schedule(0, 0.0, 10) < schedule(9, 0.0, 10) <= 1
    assert schedule(100, 1.0, 10) == pytest.approx(0.01)


def test_a_new_network_begins_in_the_context_of_the_truth(store):
    """Trajectories of a network that knows nothing are no use; trained weights have them from the first step."""
    options = OPTIONS.model_copy(update={"context": "trajectory", "truth_share": 0.5})
    physics = operators(8, 12)
    for is_new, expected in ((True, [1, 1, 1, 2, 2, 2]), (False, [2] * 6)):
        spec = Trainer(Network(CONFIG), task(store, options, physics=physics), options, is_new=is_new)
        seen, draw = [], spec.task.sampler.draw

        def drawn(*given, seen=seen, draw=draw):
            seen.append(draw(*given))
            return seen[-1]

        spec.task.sampler.draw = drawn
        list(spec.run())
        assert [len(batch.contexts) for batch in seen] == expected


def test_in_the_start_s_context_the_first_gradient_is_that_of_the_scan(store):
    """∇f(x_0) = −Aᴴ(y − A x_0) whatever Ñ is, and no operator is needed."""
    work = task(store, OPTIONS.model_copy(update={"context": "start"}))
    batch = work.sampler.draw(2, contexts=work._contexts)
    torch.testing.assert_close(work.in_context(batch).at(batch.start, 1).gradient(batch.start), -batch.residuals[0])
    torch.testing.assert_close(batch.contexts[0], batch.start)
    assert torch.isfinite(work.loss(Network(CONFIG), True))


def test_trajectories_without_the_exact_operator_are_refused(store):
    with pytest.raises(ParameterError, match="exact operator"):
        trainer(store, options=OPTIONS.model_copy(update={"context": "trajectory"}))


@pytest.mark.parametrize("partition", ["exact", "global"])
def test_the_exact_operator_can_take_the_place_of_the_approximation(store, partition):
    """On a whole volume it makes the gradient of the whole problem, N u − Aᴴy."""
    options, physics = OPTIONS.model_copy(update={"partition": partition}), operators(8, 12)
    whole = PatchSampler([store.load(0)], (16, 16, 16), 0)
    work = PatchTask(whole, store.scanners(), options, physics)
    batch = work.sampler.draw(1)
    u = torch.randn_like(batch.truth)
    exact = ExactNormal(physics[0]).restrict(batch.boxes)
    expected = exact.apply(u) - (batch.residuals[0] + exact.apply(batch.truth))
    gradient = InContext(batch, work.factors[0], work.operators[0]).at(u, 0).gradient(u)
    assert float((gradient - expected).norm() / expected.norm()) < 1e-4
    *_, last = Trainer(Network(CONFIG), work, options).run()
    assert last.outcome is Outcome.COMPLETED


def test_training_without_partitioning_takes_whole_volumes_only(store):
    options = OPTIONS.model_copy(update={"partition": "global"})
    with pytest.raises(ParameterError, match="patch is the whole volume"):
        list(trainer(store, options=options, physics=operators(8, 12)).run())


def test_automatic_precision_is_low_only_where_the_device_computes_it(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    assert low_precision("auto", "cpu") is torch.bfloat16
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True}, raising=False)
    assert low_precision("auto", "cpu") is None
    assert low_precision("float32", "cuda") is None
    assert low_precision("float16", "cuda") is torch.float16


def test_samples_are_made_between_the_steps_where_seconds_are_limited(store, monkeypatch):
    made = []

    def more():
        for k in range(100):
            made.append(k)
            yield Progress(k + 1, 100, "building training samples")

    def texts(limit):
        made.clear()
        options = OPTIONS.model_copy(update={"max_seconds": limit, "n_steps": 2})
        run = Trainer(new_network(CONFIG, 0), task(store, options), options, more=more()).run()
        return [e.text for e in run if isinstance(e, Progress)]

    monkeypatch.setattr(training_loop, "SAMPLE_SHARE", 0.0)
    assert texts(600.0) == ["training, 1 of 100 samples made"] * 2
    assert len(made) == 1
    monkeypatch.setattr(training_loop, "SAMPLE_SHARE", 1e9)
    assert texts(600.0) == ["training", "training"]
    assert len(made) == 100
    assert texts(None) == ["building training samples"] * 100 + ["training", "training"]


def test_every_sample_and_scanner_is_read_once(store, monkeypatch):
    reads = []
    for name in ("load", "scanner"):
        original = getattr(SampleStore, name)
        monkeypatch.setattr(
            SampleStore, name, lambda self, i, f=original, n=name: (reads.append((n, i)), f(self, i))[1]
        )
    specs = [SimpleNamespace(scanner=0)] * len(store)
    pool, operators = SamplePool(store, len(specs)), Operators(store, "cpu")
    list(build(store, specs, lambda spec: pytest.fail("it is there"), pool))
    drawing = PatchSampler(pool, (4, 4, 4), 0)
    for _ in range(4):
        drawing.draw(2)
    for _ in range(3):
        assert operators.is_known(0)
        operators.factors(0)
    assert sorted(reads) == sorted([*(("load", i) for i in range(len(specs))), ("scanner", 0)])
