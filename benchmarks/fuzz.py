"""Mutation fuzzing: one small sound file of every format, changed at random, and read in a process with limits.

    python benchmarks/fuzz.py [--n 20000] [--seed 0] [--seconds 900] [--out fuzz.md]

Bits are flipped, ends cut off, pieces copied elsewhere, numbers of the header replaced by extreme ones. Every file is read as a
user would read it. A worker process reads them one after the other, with limits on memory (RLIMIT_AS) and time; a worker that
hangs or dies is replaced, and its file counted. Writes a table: inputs, read, refused in one sentence, other exceptions, hangs
and deaths, peak memory in MiB above a worker that has read nothing.
"""

from __future__ import annotations

import argparse
import multiprocessing as mp
import resource
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.io.test_damage import FILES, TEXT, write_sample

from napari_unroll.errors import LONGEST_TEXT, FileFormatError, UnrollError
from napari_unroll.io.registry import read

MEMORY = 4 * 2**30
"""Bytes of addresses that a worker may take beyond its start."""
PATIENCE_S = 20.0
"""For one file of some kilobytes."""
EXTREME = (0, 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)
OUTCOMES = ("read", "refused", "exception", "hang", "death")


def flipped(content: bytearray, rng: np.random.Generator) -> bytes:
    """A few bits are others."""
    for at in rng.integers(0, len(content), int(rng.integers(1, 9))):
        content[at] ^= 1 << int(rng.integers(8))
    return bytes(content)


def cut(content: bytearray, rng: np.random.Generator) -> bytes:
    """The end is missing."""
    return bytes(content[: int(rng.integers(0, len(content)))])


def spliced(content: bytearray, rng: np.random.Generator) -> bytes:
    """A piece is put somewhere else, over what is there or between."""
    start, at = (int(k) for k in rng.integers(0, len(content), 2))
    piece = content[start : start + int(rng.integers(1, 257))]
    return bytes(content[:at] + piece + content[at + int(rng.integers(2)) * len(piece) :])


def renumbered(content: bytearray, rng: np.random.Generator) -> bytes:
    """A number of the header is extreme."""
    size, order = int(rng.choice([2, 4, 8])), str(rng.choice(["<", ">"]))
    at = int(rng.integers(0, max(1, min(len(content), 2048) - size)))
    value = int(EXTREME[int(rng.integers(len(EXTREME)))]) % 2 ** (8 * size)
    content[at : at + size] = struct.pack(order + {2: "H", 4: "I", 8: "Q"}[size], value)
    return bytes(content)


MUTATIONS: tuple[Callable[[bytearray, np.random.Generator], bytes], ...] = (flipped, cut, spliced, renumbered)


def mutated(whole: bytes, seed: tuple[int, ...]) -> bytes:
    """The file of this seed."""
    rng = np.random.default_rng(seed)
    return MUTATIONS[int(rng.integers(len(MUTATIONS)))](bytearray(whole), rng)


def outcome(path: Path, options: dict[str, Any]) -> tuple[str, str]:
    """What came of reading a file, and what was said."""
    try:
        read(path, **options)
    except FileFormatError as error:
        text = str(error)
        sound = len(text) <= LONGEST_TEXT and text.isprintable()
        return ("refused", text) if sound else ("exception", f"no plain sentence: {text!r}")
    except UnrollError as error:
        return "exception", f"{type(error).__name__}: {error}"
    except BaseException as error:
        return "exception", f"{type(error).__name__}: {error}"
    return "read", ""


def _work(pipe: Connection, name: str, folder: str) -> None:
    """Read what is asked for: seeds come, outcomes go."""
    path, options = write_sample(name, Path(folder))
    whole = path.read_bytes()
    read(path, **options)
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    pages = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (pages + MEMORY, pages + MEMORY))
    while (seed := pipe.recv()) is not None:
        path.write_bytes(mutated(whole, seed))
        found = outcome(path, options)
        pipe.send((*found, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start) / 1024))


class Worker:
    """A process that reads mutated files of one format."""

    def __init__(self, name: str) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="unroll-fuzz-")
        self.pipe, theirs = mp.Pipe()
        self.process = mp.get_context("fork").Process(target=_work, args=(theirs, name, self.folder.name), daemon=True)
        self.process.start()
        theirs.close()

    def ask(self, seed: tuple[int, ...]) -> tuple[str, str, float]:
        """Outcome, text and peak of memory in MiB."""
        try:
            self.pipe.send(seed)
            if not self.pipe.poll(PATIENCE_S):
                return "hang", f"more than {PATIENCE_S:g} s", 0.0
            return self.pipe.recv()  # type: ignore[no-any-return]
        except (EOFError, OSError):
            return "death", "the process died", 0.0

    def end(self) -> None:
        """End the process and remove its files."""
        self.process.kill()
        self.process.join()
        self.folder.cleanup()


def fuzz(name: str, n: int, seed: int, until: float) -> tuple[Counter[str], float, list[str]]:
    """Counts of outcomes, peak of memory in MiB, and what went wrong, of ``n`` files of one format."""
    counts, peak, wrong, worker = Counter[str](), 0.0, list[str](), Worker(name)
    for k in range(n):
        if time.monotonic() > until:
            break
        what, text, memory = worker.ask((seed, k))
        counts[what] += 1
        peak = max(peak, memory)
        if what not in ("read", "refused"):
            wrong.append(f"{name}, seed {seed}, file {k}: {what}, {text}")
        if what in ("hang", "death"):
            worker.end()
            worker = Worker(name)
    worker.end()
    return counts, peak, wrong


def table(rows: dict[str, tuple[Counter[str], float]]) -> Iterator[str]:
    """The table of the page."""
    yield "| file | inputs | read | refused | other exceptions | hangs | deaths | memory, MiB |"
    yield "|---|---|---|---|---|---|---|---|"
    total = Counter[str]()
    for name, (counts, peak) in rows.items():
        total += counts
        yield _row(f"`{name}`", counts, peak)
    yield _row("all", total, max(peak for _, peak in rows.values()))


def _row(name: str, counts: Counter[str], peak: float) -> str:
    cells = [name, str(sum(counts.values())), *(str(counts[o]) for o in OUTCOMES), f"{peak:.0f}"]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--n", type=int, default=20_000, help="files in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=900, help="at most, shared by the formats")
    parser.add_argument("--out", type=Path, default=Path("fuzz.md"))
    parser.add_argument("--only", nargs="*", default=(*FILES, *TEXT), help="these files")
    asked = parser.parse_args()
    names, rows, begun = asked.only, {}, time.monotonic()
    for i, name in enumerate(names):
        until = begun + asked.seconds * (i + 1) / len(names)
        counts, peak, wrong = fuzz(name, -(-asked.n // len(names)), asked.seed, until)
        rows[name] = counts, peak
        print(name, dict(counts), f"{peak:.0f} MiB", *wrong, sep="\n  ", flush=True)
        asked.out.write_text("\n".join(table(rows)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
