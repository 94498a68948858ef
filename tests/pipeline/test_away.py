"""A run that another process carries out: what is seen of it, how it is stopped, and what is left where it is killed."""

import json
import os
import shlex
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_unroll.cli.keep import keep
from napari_unroll.errors import ParameterError
from napari_unroll.events import Finished, FixedPoint, IterationDone, Outcome, PatchDone, Progress, Stop
from napari_unroll.io.writers import read_volume
from napari_unroll.methods.algorithms.network import Network
from napari_unroll.pipeline import away, telling, unfinished
from napari_unroll.pipeline.away import Away, Note, Queue, condition, give_up, resume_words, start, started, words_of
from napari_unroll.pipeline.plan import Choices, resolve
from napari_unroll.pipeline.run import run
from napari_unroll.pipeline.sources import open_scan
from napari_unroll.pipeline.unfinished import INSIDE, is_unfinished
from napari_unroll.pipeline.watching import FinishedElsewhere, is_going, kept_at, watch
from tests.pipeline.test_unfinished import half_done, planned

SAMPLE = {"n": 24, "n_views": 12, "oversample": 1}
NETWORK = Choices(
    method="unrolled-pgd", params={"n_iterations": 2, "self_ensemble": False}, patch_size=16, overlap=4, device="cpu"
)


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path):
    """Notes of other tests, and of the user, are not seen; a state after every iteration; every patch is shown."""
    monkeypatch.setenv("NAPARI_UNROLL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(unfinished, "EVERY_S", 0.0)
    monkeypatch.setattr(unfinished, "SHOWN_SHARE", 1.0)


@pytest.fixture
def gate(monkeypatch):
    """The network waits in the third of four batches, each of four calls, until the gate is open."""
    opened, calls, denoise = threading.Event(), [], Network.denoise

    def waiting(self, *given, **more):
        calls.append(self)
        if len(calls) > 8:
            opened.wait(30)
        return denoise(self, *given, **more)

    monkeypatch.setattr(Network, "denoise", waiting)
    yield opened
    opened.set()


class Elsewhere(threading.Thread):
    """The command line in another thread: it shares nothing with the watcher but the store."""

    def __init__(self, work, *arguments):
        super().__init__(daemon=True)
        self.work, self.arguments = work, arguments
        self.start()

    def run(self):
        try:
            self.work(*self.arguments)
        except BaseException as error:  # typer.Exit where there is no volume
            self.error = error


def begun(store):
    deadline = time.monotonic() + 30
    while telling.begun_at(store) is None and time.monotonic() < deadline:
        time.sleep(0.02)


def until(events, kind):
    """The events up to the first of a kind, that one included."""
    seen = []
    for event in events:
        seen.append(event)
        if isinstance(event, kind):
            return seen
    raise AssertionError(f"there was no {kind.__name__} among {seen}")


def test_patches_arrive_while_they_are_made_and_the_end_is_that_of_a_run_here(tmp_path, gate):
    plan, scan = planned("drunet", tmp_path)
    store = tmp_path / "r.ome.zarr"
    other = Elsewhere(keep, plan, scan, store, False)
    begun(store)
    first = watch(store, Stop())
    seen = until(first, PatchDone)
    assert is_going(store)
    again = until(watch(store, Stop()), PatchDone)  # somebody else, or the same window after it was closed
    assert [type(e) for e in again[:2]] == [type(e) for e in seen[:2]]
    gate.set()
    *rest, finished = first
    other.join()
    *_, undisturbed = run(plan, scan)
    assert isinstance(finished, FinishedElsewhere)
    assert finished.outcome is Outcome.COMPLETED
    np.testing.assert_array_equal(finished.result, undisturbed.result)
    assert finished.record == read_volume(store).record
    assert finished.advice == f"{undisturbed.advice} Saved r.ome.zarr."
    assert finished.history == pytest.approx(undisturbed.history, rel=1e-5)
    shown = {str(e.box): e for e in [*seen, *again, *rest] if isinstance(e, PatchDone)}
    made = {str(e.box): e for e in run(plan, scan) if isinstance(e, PatchDone)}
    assert len(shown) >= 4  # the last ones may come with the volume
    for box in shown:
        assert shown[box].consistency == made[box].consistency
    *_, late = watch(store, Stop())
    np.testing.assert_array_equal(late.result, undisturbed.result)


def test_what_a_search_for_a_fixed_point_tells_of_patches_is_seen(tmp_path):
    plan, scan = planned("mol-lr", tmp_path)
    store = tmp_path / "r.ome.zarr"
    other = Elsewhere(keep, plan, scan, store, False)
    begun(store)
    *events, finished = watch(store, Stop())
    other.join()
    *_, undisturbed = run(plan, scan)
    assert any(isinstance(e, FixedPoint) for e in events)
    found, expected = finished.fixed_point, undisturbed.fixed_point
    assert found.text == expected.text
    for name, values in expected.maps.items():
        np.testing.assert_allclose(found.maps[name], values, rtol=1e-4)


def endless(tmp_path, store):
    plan, scan = planned("tv-fista", tmp_path)
    plan = replace(plan, params=plan.params.model_copy(update={"n_iterations": 4000, "tolerance": 0.0}))
    return Elsewhere(keep, plan, scan, store, False)


def test_finish_now_and_cancel_act_within_a_second(tmp_path):
    store = tmp_path / "finished.ome.zarr"
    other, stop = endless(tmp_path, store), Stop()
    begun(store)
    events = watch(store, stop)
    until(events, IterationDone)
    stop.finish()
    at = time.perf_counter()
    *_, finished = events
    assert time.perf_counter() - at < 3  # a second, and as much for the machine
    assert finished.outcome is Outcome.FINISHED_EARLY
    np.testing.assert_array_equal(finished.result, read_volume(store).values)
    other.join()

    store = tmp_path / "cancelled.ome.zarr"
    other = endless(tmp_path, store)
    begun(store)
    events = watch(store, Stop())
    until(events, IterationDone)
    at = time.perf_counter()
    give_up(store, None)
    other.join()
    assert time.perf_counter() - at < 3
    *_, finished = events
    assert finished.result is None
    assert not store.exists()


def test_a_watcher_that_leaves_lets_the_run_go_on(tmp_path, gate):
    plan, scan = planned("drunet", tmp_path)
    store, stop = tmp_path / "r.ome.zarr", Stop()
    other = Elsewhere(keep, plan, scan, store, False)
    begun(store)
    events = watch(store, stop)
    until(events, PatchDone)
    stop.cancel()
    assert not any(isinstance(e, Finished) for e in events)
    gate.set()
    other.join()
    assert read_volume(store).values.any()


def test_a_run_of_a_killed_process_is_told_from_one_that_goes_on(tmp_path):
    plan, scan, store = half_done(tmp_path)
    assert not is_going(store)
    *_, finished = watch(store, Stop())
    assert finished.outcome is Outcome.FAILED
    other = Elsewhere(keep, plan, scan, store, True)
    other.join()
    *_, finished = watch(store, Stop())
    assert finished.outcome is Outcome.COMPLETED


def leave(one):
    """Wait until its process is gone."""
    deadline = time.monotonic() + 60
    while one.state() and time.monotonic() < deadline:
        time.sleep(0.05)


def process_plan():
    """Long enough to be stopped after its first patch, however late that is heard of."""
    scan = open_scan("sample:cone-beam", SAMPLE)
    choices = NETWORK.model_copy(update={"params": {"n_iterations": 5, "self_ensemble": True}, "patch_size": 12})
    return resolve(choices, scan), scan


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kill -9 is POSIX")
def test_a_process_that_is_killed_loses_no_finished_patch(tmp_path):
    plan, scan = process_plan()
    store = tmp_path / "r.ome.zarr"
    one = start(words_of(plan.command, store), store)
    assert condition(one) == "going"
    assert [other.store for other in started()] == [store]
    events = watch(store, Stop(), one)
    seen = until(events, PatchDone)
    assert isinstance(seen[0], Progress)
    assert "starting process" in seen[0].text
    os.kill(one.note.pid, signal.SIGKILL)
    *_, finished = events
    assert finished.outcome is Outcome.FAILED
    assert "ended without a word" in finished.advice
    assert condition(one) == "interrupted"
    assert kept_at(store)[0].grid == scan.grid
    n_kept = len(list((store / INSIDE).glob("patches-*/*.pt")))
    assert n_kept
    two = start(resume_words(store), store)
    *events, finished = watch(store, Stop(), two)
    *_, undisturbed = run(plan, scan)
    np.testing.assert_allclose(finished.result, undisturbed.result, atol=2e-6 * np.abs(undisturbed.result).max())
    assert condition(two) == "finished"
    assert [other.folder for other in started()] == [two.folder]
    leave(two)
    away.forget(store)
    assert not started()


def test_a_queue_of_submitit_runs_the_command(tmp_path):
    pytest.importorskip("submitit")
    scan = open_scan("sample:cone-beam", {"n": 16, "n_views": 12, "oversample": 1})
    plan = resolve(Choices(method="fdk", device="cpu"), scan)
    store = tmp_path / "r.ome.zarr"
    one = start(words_of(plan.command, store), store, Queue(gpus=0, hours=0.1), cluster="local")
    assert one.state()
    *_, finished = watch(store, Stop(), one)
    *_, undisturbed = run(plan, scan)
    np.testing.assert_array_equal(finished.result, undisturbed.result)
    leave(one)
    pickled = b"".join(p.read_bytes() for p in one.folder.glob("*.pkl"))
    assert b"CommandFunction" in pickled
    assert b"napari_unroll.pipeline" not in pickled


def test_without_slurm_it_says_so(tmp_path, monkeypatch):
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ParameterError, match="did not take the run"):
        start([], tmp_path / "r.ome.zarr", Queue())
    assert not started()


STAND_INS = {
    "sbatch": 'cp "$1" "$(dirname "$0")/script"; echo "Submitted batch job 42"',
    "srun": "exit 1",
    "sacct": """echo 'JobID|State|NodeList'; echo "42|$(cat "$(dirname "$0")/state")|" """,
    "scancel": 'echo "$@" > "$(dirname "$0")/cancelled"',
}


@pytest.mark.skipif(os.name != "posix", reason="the stand-ins are scripts of a shell")
def test_slurm_is_asked_and_told_by_its_commands(tmp_path, monkeypatch):
    """Stand-ins for Slurm's commands: what they are given, and what is made of their answers."""
    pytest.importorskip("submitit")
    for name, text in STAND_INS.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o700)
    (tmp_path / "state").write_text("PENDING")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    store = tmp_path / "r.ome.zarr"
    start(["reconstruct", "x.h5"], store, Queue(partition="gpu", hours=2, gpus=2, cpus=3, memory_gb=5))
    script = (tmp_path / "script").read_text()
    for wish in ("partition=gpu", "time=120", "gpus-per-node=2", "cpus-per-task=3", "mem=5GB"):
        assert f"#SBATCH --{wish}\n" in script
    one = away.at(store)  # as another window finds it
    assert one.state() == "in the queue, job 42: pending"
    assert condition(one) == "going"
    give_up(store, one)
    assert (tmp_path / "cancelled").read_text() == "42\n"
    assert away.at(store) is None
    one = start(["reconstruct", "x.h5"], store, Queue())
    one._queued().watcher.clear()
    (tmp_path / "state").write_text("NODE_FAIL")
    *_, finished = watch(store, Stop(), one)
    assert finished.outcome is Outcome.FAILED
    assert "came to no volume" in finished.advice


def test_the_words_are_those_of_the_command(tmp_path):
    plan, _ = process_plan()
    words = words_of(plan.command, tmp_path / "a b.ome.zarr")
    assert ["napari-unroll", *words[:-1]] == shlex.split(plan.command)[:-1]
    assert words[-1] == str(tmp_path / "a b.ome.zarr")


def noted(tmp_path, **more):
    note = Note(store=str(tmp_path / "r.ome.zarr"), where="process", host="elsewhere", started="2026-01-01", **more)
    return Away(tmp_path, note)


def test_what_a_failed_process_said_last_is_the_sentence(tmp_path):
    one = noted(tmp_path)
    assert condition(one) == "failed"
    *_, finished = watch(one.store, Stop(), one)
    assert "came to no volume" in finished.advice
    (tmp_path / away.LOG).write_text("fit: 3 of 4\rnapari-unroll: There is no file x.h5.\nother words\n")
    *_, finished = watch(one.store, Stop(), one)
    assert finished.outcome is Outcome.FAILED
    assert finished.advice == "There is no file x.h5."


LINES = [
    b"", b"{", b"[]", b"null", b'{"event": "Patch"}', b'{"event": "Exec", "text": "x"}', b"[" * 10_000,
    b'{"event": "Patch", "box": [0, 99, 0, 1, 0, "x"]}', b'{"event": "Progress", "step": "many", "n_steps": 1}',
    b'{"event": "Iteration", "iteration": -1, "n_iterations": 1}',
]  # fmt: skip


@pytest.mark.parametrize("line", LINES)
def test_lines_that_are_none_of_ours_are_passed_over(line):
    assert telling.read(line) is None


def test_a_box_outside_of_the_volume_is_none():
    inside = telling.Patch(box=(0, 4, 0, 4, 0, 4))
    assert inside.inside((4, 4, 4)) is not None
    assert inside.inside((4, 4, 3)) is None


def test_wishes_of_others_are_not_heard(tmp_path):
    plan, scan = planned("tv-fista", tmp_path)
    store = tmp_path / "r.ome.zarr"
    with unfinished.kept(store, plan, scan) as kept:
        (store / INSIDE / telling.WISH).write_text(json.dumps({"token": "old", "wish": "cancel"}))
        *_, finished = telling.told(run(plan, scan, kept=kept), kept, Stop())
    assert finished.outcome is Outcome.COMPLETED
    assert is_unfinished(store)
    assert Path(store / INSIDE / telling.EVENTS).read_bytes().count(b"\n") > 3
