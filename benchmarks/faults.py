"""Faults at every stage: what is lost, what is said, and whether the values are those of an undisturbed run.

    python benchmarks/faults.py [--n 10] [--seed 0] [--out faults.md]

Every case runs in a process of its own, forked from this one (which computes nothing, for threads do not survive that), on a
scan of 12³ voxels: it is killed at a random time (SIGKILL), runs out of memory at every patch, out of disk (RLIMIT_FSIZE) and
of permissions, finds what was kept damaged, is given NaN by its network, or meets another process at its output. Then it goes
on. Writes a table: cases, how many ended with the volume or in one sentence, and the largest difference from the undisturbed
values in parts of the largest.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.methods import tiny

from napari_unroll.errors import LONGEST_TEXT, UnrollError
from napari_unroll.events import Finished
from napari_unroll.io.writers import write
from napari_unroll.methods.algorithms.network import USUAL_NOISE, Network
from napari_unroll.methods.registry import METHODS
from napari_unroll.normal import cache
from napari_unroll.pipeline import unfinished
from napari_unroll.pipeline.plan import Choices, resolve
from napari_unroll.pipeline.run import run
from napari_unroll.training.plan import TrainingPlan
from napari_unroll.training.session import train

PATIENCE_S = 300.0
NOBODY = 65534
SOME_BYTES = 60_000
"""A disk that is full: no file grows beyond it."""
TOO_LARGE = "dpir-ram"
"""A network of 35 million weights is not killed here."""
TRAINING = {
    "size": 12, "levels": (6,), "n_objects": 2, "n_held_out": 1,
    "network": {"prior": {"channels": (4, 4, 4, 4)}, "n_iterations": 1, "start_iterations": 2},
    "options": {"n_steps": 6, "patch_size": (8, 8, 8), "log_every": 1, "validate_every": 2, "validation_share": 1.0,
                "max_seconds": None},
}  # fmt: skip


@dataclass(frozen=True)
class End:
    """How a process ended: values, and what was said."""

    values: np.ndarray | None = None
    text: str = ""

    @property
    def is_sound(self) -> bool:
        """Values, or one sentence."""
        return self.values is not None or (0 < len(self.text) <= LONGEST_TEXT and self.text.isprintable())


@dataclass
class Row:
    """A line of the table."""

    title: str
    cases: int = 0
    sound: int = 0
    difference: float | None = None

    def add(self, end: End | None, wanted: np.ndarray | None = None) -> None:
        """One more case; ``wanted`` are the undisturbed values where the same are expected."""
        self.cases += 1
        self.sound += end is not None and end.is_sound and (wanted is None or end.values is not None)
        if wanted is not None and end is not None and end.values is not None:
            gap = float(np.abs(end.values - wanted).max() / max(np.abs(wanted).max(), 1e-30))
            self.difference = max(self.difference or 0.0, gap)
        if end is None or not end.is_sound or (wanted is not None and end.values is None):
            print(f"  {self.title}: {end}", flush=True)


def child(work: Callable[[], End], kill_after: float | None = None) -> End | None:
    """``work`` in a process of its own; None where it died. ``kill_after`` so many seconds it is killed."""
    ours, theirs = Pipe()
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            theirs.send(_guarded(work))
        os._exit(0)
    theirs.close()
    end: End | None = None
    if ours.poll(PATIENCE_S if kill_after is None else kill_after):
        with contextlib.suppress(EOFError):
            end = ours.recv()
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return end


def _guarded(work: Callable[[], End]) -> End:
    try:
        return work()
    except (UnrollError, OSError) as error:
        return End(text=str(error))


def reconstruction(folder: Path, method: str, out: Path | None = None, again: bool = False) -> Callable[[], End]:
    """A run of ``method``, kept at ``out`` and written there, or gone on with."""

    def work() -> End:
        scan = tiny.cone(12, 6)
        params = tiny.quick_params(tiny.get(method), scan, folder)
        if not tiny.get(method).needs_weights:
            params = {"n_iterations": 8, "tolerance": 0.0}
        plan = resolve(Choices(method=method, params=params, patch_size=8, overlap=2, device="cpu"), scan)
        if out is None:
            return _end(run(plan, scan))
        keeping = unfinished.resumed(out) if again else unfinished.kept(out, plan, scan, overwrite=True)
        with keeping as store:
            end = _end(run(plan, scan, kept=store))
            if end.values is not None:
                write(out, end.values, plan.grid, overwrite=True)
            return end

    return work


def _end(events: Iterator[Any]) -> End:
    *_, last = events
    assert isinstance(last, Finished)
    return End(last.result, last.advice)


def fit(folder: Path) -> Callable[[], End]:
    """A fit of the normal operator, kept in the cache."""

    def work() -> End:
        from napari_unroll.physics.build import build_physics

        scan = tiny.cone(12, 6)
        *_, last = cache.cached_fit(scan, build_physics(scan, "cpu"))
        return End(None if last.result is None else last.result.kernel.numpy(), last.advice)

    return work


def training(out: Path) -> Callable[[], End]:
    """A training in ``out``; its values are the averaged weights."""

    def work() -> End:
        *_, last = train(TrainingPlan(**TRAINING), out, "cpu")
        if last.result is None:
            return End(text=last.advice)
        state = torch.load(_state_of(out), weights_only=True)["network"]
        return End(np.concatenate([v.flatten().numpy() for v in state.values()]), last.advice)

    return work


def _state_of(out: Path) -> Any:
    import io

    from napari_unroll.io.sealed import unsealed
    from napari_unroll.training.checkpoint import MARK

    content = unsealed(out / "training.state", MARK)
    return io.BytesIO(content or b"")


def timed(work: Callable[[], End]) -> tuple[End, float]:
    """The undisturbed end, and the seconds to it."""
    begun = time.perf_counter()
    end = child(work)
    assert end is not None, "the undisturbed run died"
    assert end.values is not None, end.text
    return end, time.perf_counter() - begun


def kills(folder: Path, n: int, rng: np.random.Generator) -> Iterator[Row]:
    """Killed at random times, then gone on with."""
    iterative = (m.name for m in METHODS.values() if m.iterative and "ct" in m.modalities)
    for method in (name for name in iterative if name != TOO_LARGE):
        row, (whole, seconds) = Row(f"kill −9, {method}"), timed(reconstruction(folder, method))
        for i in range(n):
            out = folder / f"kill-{method}-{i}.ome.zarr"
            end = child(reconstruction(folder, method, out), float(rng.uniform(0.1, 1)) * seconds)
            if end is None:
                is_kept = (out / unfinished.INSIDE / unfinished.RECORD).is_file()
                end = child(reconstruction(folder, method, out, again=is_kept))
            row.add(end, whole.values)
        yield row
    row, (whole, seconds) = Row("kill −9, fit"), timed(_fresh_fit(folder, "whole"))
    for i in range(n):
        child(_fresh_fit(folder, str(i)), float(rng.uniform(0.1, 1)) * seconds)
        row.add(child(_fresh_fit(folder, str(i))), whole.values)
    yield row
    row, (whole, seconds) = Row("kill −9, training"), timed(training(folder / "t"))
    for i in range(n):
        for _ in range(2):
            child(training(folder / f"t{i}"), float(rng.uniform(0.1, 1)) * seconds)
        row.add(child(training(folder / f"t{i}")), whole.values)
    yield row


def _fresh_fit(folder: Path, name: str) -> Callable[[], End]:
    def work() -> End:
        os.environ["NAPARI_UNROLL_CACHE"] = str(folder / f"cache-{name}")
        return fit(folder)()

    return work


def denoising(
    answer: Callable[[Network, torch.Tensor, int, int], torch.Tensor], work: Callable[[], End]
) -> Callable[[], End]:
    """``work`` with another answer of its network: of the network, patches, iteration and how often it was called."""

    def disturbed() -> End:
        n_calls, real = 0, Network.denoise

        def denoise(self: Network, x: torch.Tensor, k: int, noise: float) -> torch.Tensor:
            nonlocal n_calls
            n_calls += 1
            return answer(self, x, k, n_calls) if answer is not real else real(self, x, k, noise)

        REAL.append(real)
        Network.denoise = denoise  # type: ignore[method-assign]
        return work()

    return disturbed


REAL: list[Any] = []


def memory(folder: Path) -> Iterator[Row]:
    """Memory runs out at every call of the network in turn; smaller patches are impossible below 16, so what is done is kept."""
    row = Row("out of memory at any patch")
    for at in range(1, 100):
        out, hit = folder / f"oom-{at}.ome.zarr", folder / f"oom-{at}"

        def answer(network: Network, x: torch.Tensor, k: int, n: int, at: int = at, hit: Path = hit) -> torch.Tensor:
            if n == at:
                hit.touch()
                torch.empty(2**55, dtype=torch.uint8)
            return REAL[-1](network, x, k, USUAL_NOISE)  # type: ignore[no-any-return]

        first = child(denoising(answer, reconstruction(folder, "unrolled-pgd", out)))
        if not hit.exists():
            break
        assert first is not None
        row.add(first)
    yield row


def network_nan(folder: Path) -> Row:
    """The network answers with NaN from some call on."""
    row = Row("NaN from the network")
    for at in (1, 5, 20):
        for method in ("unrolled-pgd", "mol-lr"):
            answer = lambda net, x, k, n, at=at: REAL[-1](net, x, k, USUAL_NOISE) * (float("nan") if n >= at else 1.0)  # noqa: E731
            row.add(child(denoising(answer, reconstruction(folder, method))))
    return row


def disk(folder: Path) -> Iterator[Row]:
    """No file may grow beyond a few kilobytes: the run ends with its volume, the training in a sentence."""
    whole = timed(reconstruction(folder, "unrolled-pgd"))[0]

    def limited(work: Callable[[], End]) -> Callable[[], End]:
        def full() -> End:
            resource.setrlimit(resource.RLIMIT_FSIZE, (SOME_BYTES, SOME_BYTES))
            return work()

        return full

    row = Row("disk full, reconstruction")
    row.add(child(limited(reconstruction(folder, "unrolled-pgd", folder / "full.ome.zarr"))), whole.values)
    yield row
    row = Row("disk full, fit")
    row.add(child(limited(_fresh_fit(folder, "full"))))
    yield row
    row = Row("disk full, training")
    row.add(child(limited(training(folder / "t-full"))))
    yield row


def forbidden(folder: Path) -> Row:
    """A folder that may not be written into, as somebody without rights."""
    row, closed = Row("folder not to be written into"), folder / "closed"
    closed.mkdir(mode=0o555)

    def without_rights(work: Callable[[], End]) -> Callable[[], End]:
        def work_as_nobody() -> End:
            if os.geteuid() == 0:
                os.setuid(NOBODY)
            return work()

        return work_as_nobody

    row.add(child(without_rights(reconstruction(folder, "tv-fista", closed / "r.ome.zarr"))))
    row.add(child(without_rights(training(closed / "t"))))
    return row


def damage(folder: Path, rng: np.random.Generator, n: int) -> Iterator[Row]:
    """Bits flipped and ends cut off of everything that is kept."""
    whole = timed(reconstruction(folder, "unrolled-pgd"))[0]
    row = Row("damaged store of an unfinished run")
    for i in range(n):
        out = folder / f"damage-{i}.ome.zarr"
        stop = lambda net, x, k, n: os._exit(9) if n == 6 else REAL[-1](net, x, k, USUAL_NOISE)  # noqa: E731
        child(denoising(stop, reconstruction(folder, "unrolled-pgd", out)))
        files = sorted(
            p for p in (out / unfinished.INSIDE).rglob("*") if p.suffix in (".pt", ".json") and p.stat().st_size
        )
        _spoil(files[int(rng.integers(len(files)))], rng)
        end = child(reconstruction(folder, "unrolled-pgd", out, again=True))
        row.add(end, whole.values if end is not None and end.values is not None else None)
    yield row
    row, wanted = Row("damaged cache of fits"), timed(_fresh_fit(folder, "spoilt"))[0]
    for _ in range(n):
        _spoil(next((folder / "cache-spoilt" / "normal").glob("*.safetensors")), rng)
        row.add(child(_fresh_fit(folder, "spoilt")), wanted.values)
    yield row
    row = Row("damaged weights")
    weights = folder / "tiny-unrolled-pgd.safetensors"
    sound = weights.read_bytes()
    for _ in range(n):
        _spoil(weights, rng)
        row.add(child(_with_weights(folder, weights)))
        weights.write_bytes(sound)
    yield row
    row, wanted = Row("damaged state of a training"), timed(training(folder / "t-spoilt"))[0]
    for _ in range(n):
        _spoil(folder / "t-spoilt" / "training.state", rng)
        row.add(child(training(folder / "t-spoilt")), wanted.values)
    yield row


def _with_weights(folder: Path, weights: Path) -> Callable[[], End]:
    def work() -> End:
        scan = tiny.cone(12, 6)
        choices = Choices(method="unrolled-pgd", weights=str(weights), patch_size=8, overlap=2, device="cpu")
        return _end(run(resolve(choices, scan), scan))

    return work


def _spoil(path: Path, rng: np.random.Generator) -> None:
    content = bytearray(path.read_bytes())
    if rng.random() < 0.5:
        path.write_bytes(content[: int(rng.integers(len(content)))])
        return
    for at in rng.integers(0, len(content), 3):
        content[at] ^= 1 << int(rng.integers(8))
    path.write_bytes(content)


def together(folder: Path) -> Row:
    """Two processes on one output: the second says so, the first ends as it would."""
    row, whole = Row("two processes on one output"), timed(reconstruction(folder, "unrolled-pgd"))[0]
    for name, work in (
        ("r", reconstruction(folder, "unrolled-pgd", folder / "both.ome.zarr")),
        ("t", training(folder / "t-both")),
    ):
        pid = os.fork()
        if pid == 0:
            with contextlib.suppress(BaseException):
                work()
            os._exit(0)
        place = folder / ("both.ome.zarr/unfinished/run.json" if name == "r" else "t-both/plan.json")
        while not place.exists():
            time.sleep(0.005)
        second = child(work)
        os.waitpid(pid, 0)
        row.add(second)
        assert second is not None
        assert "another process" in second.text, second.text
    read = child(lambda: End(unfinished_values(folder / "both.ome.zarr")))
    row.add(read, whole.values)
    return row


def unfinished_values(path: Path) -> np.ndarray:
    """What is stored."""
    from napari_unroll.io.writers import read_volume

    return read_volume(path).values


def measure(folder: Path, n: int, seed: int) -> Iterator[Row]:
    """All rows."""
    rng = np.random.default_rng(seed)
    os.environ["NAPARI_UNROLL_CACHE"] = str(folder / "cache")
    unfinished.EVERY_S = cache.SAVE_EVERY_S = 0.0  # type: ignore[misc]
    yield from memory(folder)
    yield network_nan(folder)
    yield from disk(folder)
    yield forbidden(folder)
    yield from damage(folder, rng, n)
    yield together(folder)
    yield from kills(folder, n, rng)


def table(rows: list[Row]) -> Iterator[str]:
    """The table of the page."""
    yield "| fault | cases | ended with the volume or one sentence | largest difference |"
    yield "|---|---|---|---|"
    for row in rows:
        gap = "" if row.difference is None else f"{row.difference:.1g}"
        yield f"| {row.title} | {row.cases} | {row.sound} | {gap} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--n", type=int, default=10, help="random cases of a kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("faults.md"))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="unroll-faults-") as folder:
        Path(folder).chmod(0o755)
        for row in measure(Path(folder), asked.n, asked.seed):
            rows.append(row)
            print(row, flush=True)
            asked.out.write_text("\n".join(table(rows)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
