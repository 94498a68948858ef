"""A run that is kept while it goes: interrupted anywhere it goes on to the values of an undisturbed one."""

import subprocess
import sys
import time

import numpy as np
import pytest
from typer.testing import CliRunner

from napari_unroll.cli.app import app
from napari_unroll.errors import FileFormatError, ParameterError
from napari_unroll.events import IterationDone, Outcome, PatchDone, Stop, Warned
from napari_unroll.io.writers import read_volume
from napari_unroll.methods.algorithms.network import Network
from napari_unroll.methods.registry import METHODS
from napari_unroll.pipeline import unfinished
from napari_unroll.pipeline.plan import Choices, resolve
from napari_unroll.pipeline.run import run
from napari_unroll.pipeline.unfinished import is_unfinished, kept, resumed
from tests.methods import tiny
from tests.pipeline.test_run import allocate_too_much

ITERATIVE = [
    pytest.param(m.name, marks=[pytest.mark.slow] if m.name == "dpir-ram" else [])
    for m in METHODS.values()
    if m.iterative
]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _cache(monkeypatch, cache):
    monkeypatch.setenv("NAPARI_UNROLL_CACHE", str(cache))
    monkeypatch.setattr(unfinished, "EVERY_S", 0.0)


def planned(method, tmp_path, **more):
    scans = (tiny.cone(12, 6), tiny.multicoil((4, 12, 12)))
    scan = next(scan for scan in scans if not tiny.get(method).obstacle(scan))
    params = tiny.quick_params(tiny.get(method), scan, tmp_path) | more
    if not tiny.get(method).needs_weights:
        params = {"n_iterations": 5, "tolerance": 0.0}
    return resolve(Choices(method=method, params=params, patch_size=8, overlap=2, device="cpu"), scan), scan


class Killed(BaseException):
    """Nobody catches it."""


def killed_after(plan, scan, path, n):
    """A kept run that ends at the ``n``-th patch or iteration; whether it came that far."""
    try:
        with kept(path, plan, scan) as store:
            seen = 0
            for event in run(plan, scan, kept=store):
                seen += isinstance(event, PatchDone | IterationDone)
                if seen == n:
                    raise Killed
    except Killed:
        return True
    return False


def gone_on(plan, scan, path):
    with resumed(path) as store:
        *events, finished = run(plan, scan, kept=store)
    assert finished.outcome is Outcome.COMPLETED, finished.advice
    return events, finished.result


def n_steps(events):
    return sum(isinstance(e, PatchDone | IterationDone) for e in events)


@pytest.mark.parametrize("method", ITERATIVE)
def test_a_run_that_ends_anywhere_goes_on_to_the_same_values(method, tmp_path):
    plan, scan = planned(method, tmp_path)
    *events, undisturbed = run(plan, scan)
    n = n_steps(events)
    for after in {1, n // 2 + 1, n - 1}:
        path = tmp_path / f"{method}-{after}.ome.zarr"
        assert killed_after(plan, scan, path, after)
        rest, result = gone_on(plan, scan, path)
        assert n_steps(rest) < n or after == 1
        np.testing.assert_allclose(result, undisturbed.result, atol=2e-6 * np.abs(undisturbed.result).max())


def test_finished_patches_are_not_made_again(tmp_path):
    plan, scan = planned("unrolled-pgd", tmp_path)
    n_patches = sum(isinstance(e, PatchDone) for e in run(plan, scan))
    n_kept = n_patches // 2
    assert killed_after(plan, scan, tmp_path / "r.ome.zarr", n_kept + 1)  # one event is of an iteration
    made = []
    with resumed(tmp_path / "r.ome.zarr") as store:
        add = store.add
        store.add = lambda patches: (made.extend(patches), add(patches))
        list(run(plan, scan, kept=store))
    assert len(made) == n_patches - n_kept


def half_done(tmp_path, name="r.ome.zarr"):
    plan, scan = planned("drunet", tmp_path)
    path = tmp_path / name
    assert killed_after(plan, scan, path, 5)
    return plan, scan, path


def newest(path, pattern):
    return max((path / "unfinished").glob(pattern))


@pytest.mark.parametrize("damage", ["cut", "flipped", "gone"])
@pytest.mark.parametrize("part", ["state-*.pt", "patches-*/*.pt"])
def test_what_is_damaged_is_made_again(tmp_path, part, damage):
    plan, scan, path = half_done(tmp_path)
    *_, undisturbed = run(plan, scan)
    file = newest(path, part)
    content = file.read_bytes()
    if damage == "gone":
        file.unlink()
    else:
        half = len(content) // 2
        flipped = content[:half] + bytes([content[half] ^ 255]) + content[half + 1 :]
        file.write_bytes(content[:half] if damage == "cut" else flipped)
    events, result = gone_on(plan, scan, path)
    np.testing.assert_allclose(result, undisturbed.result, atol=2e-6 * np.abs(undisturbed.result).max())
    has_none_left = part.startswith("state") and damage != "gone"
    assert any(isinstance(e, Warned) and "damaged" in e.text for e in events) == has_none_left


@pytest.mark.parametrize("content", ["", "{", "[]", '{"version": 1, "sha256": "", "record": "{}"}'])
def test_a_damaged_or_foreign_record_is_one_sentence(tmp_path, content):
    _, _, path = half_done(tmp_path)
    (path / "unfinished" / "run.json").write_text(content)
    with pytest.raises(FileFormatError, match="damaged or of another version"), resumed(path):
        pass


def test_where_no_run_is_kept_it_says_so(tmp_path):
    with pytest.raises(FileFormatError, match="no unfinished run"), resumed(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_two_processes_on_one_output(tmp_path):
    plan, scan, path = half_done(tmp_path)
    with resumed(path):
        for again in (lambda: resumed(path), lambda: kept(path, plan, scan), lambda: kept(path, plan, scan, True)):
            with pytest.raises(ParameterError, match="being written by another process"), again():
                pass
    with pytest.raises(ParameterError, match="unfinished run; go on with --resume"), kept(path, plan, scan):
        pass


def test_a_disk_that_fills_up_does_not_end_the_run(tmp_path, monkeypatch):
    plan, scan = planned("drunet", tmp_path)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(unfinished, "write_sealed", full)
    with kept(tmp_path / "r.ome.zarr", plan, scan) as store:
        *events, finished = run(plan, scan, kept=store)
    assert finished.outcome is Outcome.COMPLETED
    assert [e.text for e in events if isinstance(e, Warned)] == [
        "The run goes on, but cannot be kept in r.ome.zarr ([Errno 28] No space left on device)."
    ]


def test_another_process_of_the_group_goes_on_from_it_and_writes_nothing(tmp_path):
    plan, scan = planned("unrolled-pgd", tmp_path)
    path = tmp_path / "r.ome.zarr"
    assert killed_after(plan, scan, path, 6)
    with resumed(path) as store, resumed(path, writes=False) as beside:
        before = sorted((p, p.stat().st_mtime_ns) for p in path.rglob("*") if p.is_file())
        *events, followed = run(plan, scan, kept=beside)
        assert sorted((p, p.stat().st_mtime_ns) for p in path.rglob("*") if p.is_file()) == before
        *others, finished = run(plan, scan, kept=store)
    np.testing.assert_array_equal(followed.result, finished.result)
    assert n_steps(events) == n_steps(others)


def test_a_cancelled_run_leaves_nothing(tmp_path):
    plan, scan = planned("drunet", tmp_path)
    stop = Stop()
    with kept(tmp_path / "r.ome.zarr", plan, scan) as store:
        for event in run(plan, scan, stop, kept=store):
            if isinstance(event, PatchDone):
                stop.cancel()
    assert event.outcome is Outcome.CANCELLED
    assert not (tmp_path / "r.ome.zarr").exists()


def test_out_of_memory_at_any_patch_loses_no_finished_one(tmp_path, monkeypatch):
    """Patches that were done when memory ran out are part of the result, whatever the size of the later ones."""
    plan, scan = planned("drunet", tmp_path, self_ensemble=False)
    scan = tiny.cone(36, 6)
    plan = resolve(
        Choices(method="drunet", params=plan.params.model_dump(), patch_size=24, overlap=4, device="cpu"), scan
    )
    whole = [e for e in run(plan, scan) if isinstance(e, PatchDone)]
    for fails_at in (1, len(whole) // 4):
        n_calls = 0

        def denoise(self, x, k, noise, real=Network.denoise, at=fails_at):
            nonlocal n_calls
            n_calls += 1
            if n_calls == at + 1:
                allocate_too_much()
            return real(self, x, k, noise)

        monkeypatch.setattr(Network, "denoise", denoise)
        *events, finished = run(plan, scan)
        monkeypatch.undo()
        monkeypatch.setenv("NAPARI_UNROLL_CACHE", str(tmp_path))
        assert finished.outcome is Outcome.COMPLETED, finished.advice
        sizes = [e.values.shape for e in events if isinstance(e, PatchDone)]
        assert sizes.count((24, 24, 24)) == 2 * fails_at
        corner = whole[0].box
        np.testing.assert_allclose(finished.result[corner][:8, :8, :8], whole[0].values[:8, :8, :8], atol=1e-6)


def test_a_killed_command_goes_on(tmp_path):
    """kill -9 from outside, and the command that the next sentence names."""
    plan, _ = planned("drunet", tmp_path)
    weights = plan.params.weights
    out = tmp_path / "r.ome.zarr"
    words = ["reconstruct", "sample:cone-beam", "-o", "n=16", "-o", "n_views=6", "-m", "drunet", "--weights", weights]
    words += ["--patch-size", "8", "--overlap", "2", "--device", "cpu"]
    code = "import sys; from napari_unroll.cli.app import main; main()"
    undisturbed = tmp_path / "u.ome.zarr"
    assert CliRunner().invoke(app, [*words, "--out", str(undisturbed)]).exit_code == 0
    process = subprocess.Popen([sys.executable, "-c", code, *words, "--out", str(out)])
    while process.poll() is None and len(list(out.glob("unfinished/patches-*/*.pt"))) < 3:
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert is_unfinished(out)
    assert read_volume(out).values.shape == (16, 16, 16)
    again = CliRunner().invoke(app, [*words, "--out", str(out)])
    assert again.exit_code == 2
    assert "--resume" in again.output
    assert CliRunner().invoke(app, ["reconstruct", "--resume", str(out), "-m", "fdk"]).exit_code == 2
    done = CliRunner().invoke(app, ["reconstruct", "--resume", str(out)])
    assert done.exit_code == 0, done.output
    assert not is_unfinished(out)
    assert not list(tmp_path.glob(".*"))
    np.testing.assert_allclose(read_volume(out).values, read_volume(undisturbed).values, atol=1e-6)
    assert "--patch-size 8 --overlap 2" in read_volume(out).record["command"]
