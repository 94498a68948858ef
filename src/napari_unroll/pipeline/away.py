"""Start ``napari-unroll`` in another process or in a queue of Slurm, and find again what was started.

The other process gets an argument list, never a line for a shell, and shares no memory with this one: it keeps its run in a
store, and whoever wants to know looks there (see ``watching``). What is started is noted in the user's cache folder, so that
a window that was closed finds it again.
"""

from __future__ import annotations

import shlex
import shutil
import socket
import subprocess
import sys
import uuid
from collections.abc import Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import psutil
from pydantic import Field, ValidationError

from napari_unroll.errors import ParameterError, shortened
from napari_unroll.io.atomic import remove, write_text
from napari_unroll.io.ome_zarr import holds_volume
from napari_unroll.normal.cache import cache_folder
from napari_unroll.pipeline.telling import CANCEL, begun_at
from napari_unroll.pipeline.unfinished import INSIDE, is_unfinished
from napari_unroll.pipeline.watching import Watcher, is_going, is_kept
from napari_unroll.record import Record

PROCESS, SLURM = "process", "slurm"
NOTE, LOG = "run.json", "log.txt"
SPEAKER = "napari-unroll: "
"""How the command line begins a sentence about itself."""
END_S = 3.0
"""Seconds that a process which is ended before its run began may take for it."""
_children: dict[int, subprocess.Popen[bytes]] = {}
"""Processes started from here, by number: only who started one hears that it ended."""


class Queue(Record):
    """What is asked of Slurm for a run."""

    partition: str = Field(default="", max_length=200, description="Partition of the cluster; empty is its default.")
    account: str = Field(default="", max_length=200, description="Account that is charged; empty is your default.")
    hours: float = Field(default=4.0, ge=0.02, le=1000, description="Longest time; what is killed then can go on.")
    gpus: int = Field(default=1, ge=0, le=64, description="GPUs.")
    cpus: int = Field(default=4, ge=1, le=1024, description="Processor cores.")
    memory_gb: float = Field(default=32.0, ge=0.1, le=1e5, description="Memory of the job.")


class Note(Record):
    """What is noted of a run that was started elsewhere."""

    store: str = Field(description="Where it is kept.")
    where: Literal["process", "slurm"]
    host: str = Field(description="The machine that started it.")
    started: str = Field(description="Time in UTC, ISO 8601.")
    pid: int = Field(default=0, ge=0, le=2**32, description="Number of the process there.")
    born_s: float = Field(default=0.0, ge=0, le=1e12, description="When that process was made, by its system.")
    job: str = Field(default="", description="Number of the job in the queue.")
    cluster: str = Field(default="slurm", description="Executor of submitit.")
    before: str = Field(default="", description="Token of who told in the store earlier.")


class Away:
    """A run that was started elsewhere: its note and its log are in ``folder``."""

    def __init__(self, folder: Path, note: Note, job: Any = None) -> None:
        self.folder, self.note = folder, note
        self.store = Path(note.store)
        self._job = job

    @property
    def before(self) -> str:
        """Token of who told in the store earlier."""
        return self.note.before

    @property
    def started(self) -> str:
        """When it was started: time in UTC, ISO 8601."""
        return self.note.started

    @property
    def where(self) -> str:
        """In words."""
        return f"job {self.note.job} of the queue" if self.note.where == SLURM else f"process {self.note.pid}"

    def state(self) -> str:
        """How it is before its run begins, in words; "" when it has ended."""
        if self.note.where == SLURM:
            job = self._queued()
            return "" if job is None or job.done() else f"in the queue, job {self.note.job}: {str(job.state).lower()}"
        return f"starting {self.where}" if self._process() is not None else ""

    def last_words(self) -> str:
        """The last sentence of its log about itself, or ""."""
        logs = [self.folder / LOG, *self.folder.glob("*_log.*")]
        said = [line for log in logs for line in _tail(log) if line.startswith(SPEAKER)]
        return shortened(said[-1].removeprefix(SPEAKER)) if said else ""

    def end(self) -> None:
        """End it before its run began; what it may have begun to write goes."""
        if self.note.where == SLURM:
            job = self._queued()
            if job is not None:
                job.cancel(check=False)
        elif (process := self._process()) is not None:
            with suppress(psutil.Error):
                process.terminate()
                process.wait(END_S)
        begun = self.store / INSIDE
        if begun.is_dir() and not is_going(self.store) and not list(begun.glob("state-*")):
            remove(self.store if is_unfinished(self.store) else begun)

    def _process(self) -> psutil.Process | None:
        """The process, None where it has ended, or is one of another machine."""
        child = _children.get(self.note.pid)
        if self.note.host != socket.gethostname() or (child is not None and child.poll() is not None):
            return None
        try:
            process = psutil.Process(self.note.pid)
            is_it = abs(process.create_time() - self.note.born_s) < 1 and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return None
        return process if is_it else None

    def _queued(self) -> Any:
        """submitit's job, None where submitit is not there or its commands fail."""
        if self._job is None and self.note.cluster == SLURM:
            with suppress(Exception):
                from submitit import SlurmJob

                self._job = SlurmJob(self.folder, self.note.job)
        return self._job


def words_of(command: str, store: Path, overwrite: bool = False) -> list[str]:
    """The arguments of a plan's ``command`` (*Copy as command*), with ``store`` for its result, in place of what is there."""
    return [*shlex.split(command)[1:-1], str(store), *(["--overwrite"] if overwrite else [])]


def resume_words(store: Path) -> list[str]:
    """The arguments that go on with the run in ``store``."""
    return ["reconstruct", "--resume", str(store)]


def start(words: Sequence[str], store: Path, queue: Queue | None = None, cluster: str = "slurm") -> Away:
    """Start ``napari-unroll`` with ``words``, which keeps its run in ``store``: in a process of its own, or in a ``queue``.

    It ends neither with this process nor with its terminal. Raises ParameterError where it cannot be started. ``cluster`` is
    the executor of submitit.
    """
    folder = folder_of_notes() / uuid.uuid4().hex[:12]
    folder.mkdir(parents=True)
    command = [sys.executable, "-m", "napari_unroll.cli", *words]
    earlier = begun_at(store)
    note = {
        "store": str(store.absolute()), "host": socket.gethostname(), "before": "" if earlier is None else earlier.token,
        "started": datetime.now(UTC).isoformat(),  # to the microsecond: later than what was made in this second
    }  # fmt: skip
    try:
        if queue is None:
            made, job = _spawned(command, folder), None
        else:
            job = _queued(command, folder, queue, cluster)
            made = {"where": SLURM, "job": str(job.job_id), "cluster": cluster}
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    forget(store)
    away = Away(folder, Note(**note, **made), job)
    write_text(folder / NOTE, away.note.model_dump_json())
    return away


def _spawned(command: list[str], folder: Path) -> dict[str, Any]:
    """A process in a session of its own, which speaks into a file."""
    apart: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        apart = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.DETACHED_PROCESS}
    try:
        with (folder / LOG).open("ab") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **apart)
    except OSError as error:
        raise ParameterError(f"No process could be started ({error.strerror or error}).") from error
    _children[process.pid] = process
    born = psutil.Process(process.pid).create_time()
    return {"where": PROCESS, "pid": process.pid, "born_s": born}


def _queued(command: list[str], folder: Path, queue: Queue, cluster: str) -> Any:
    """A job of submitit, which runs the command as it is: what it pickles is a list of words."""
    try:
        from submitit import AutoExecutor
        from submitit.helpers import CommandFunction
    except ImportError:
        raise ParameterError("A queue needs submitit: pip install 'napari-unroll[cluster]'.") from None
    wishes: dict[str, Any] = {
        "name": "napari-unroll", "timeout_min": max(1, round(60 * queue.hours)), "gpus_per_node": queue.gpus,
        "cpus_per_task": queue.cpus, "mem_gb": queue.memory_gb,
    }  # fmt: skip
    wishes |= {f"slurm_{n}": getattr(queue, n) for n in ("partition", "account") if getattr(queue, n)}
    try:
        executor = AutoExecutor(folder, cluster=cluster)
        executor.update_parameters(**wishes)
        return executor.submit(CommandFunction(command))
    except Exception as error:  # of submitit, and of the commands that it calls
        raise ParameterError(f"The queue did not take the run: {shortened(error, 150)}") from error


def give_up(store: Path, away: Away | None) -> None:
    """Cancel a run that another process keeps in ``store``, or that has not begun yet; raises OSError where that cannot be written.

    It ends within a second: what it does is looked at in every step.
    """
    with closing(Watcher(store, away)) as watcher:
        is_heard = watcher.wish(CANCEL)
    if not is_heard and away is not None:
        away.end()
    forget(store)


def started() -> list[Away]:
    """What was started elsewhere and is not forgotten, the newest last."""
    found = []
    for note in folder_of_notes().glob(f"*/{NOTE}"):
        with suppress(OSError, ValidationError, UnicodeDecodeError):
            found.append(Away(note.parent, Note.model_validate_json(note.read_text(encoding="utf-8"))))
    return sorted(found, key=lambda away: away.note.started)


def at(store: Path) -> Away | None:
    """What was started for ``store``."""
    return next((away for away in started() if away.store == store.absolute()), None)


def forget(store: Path) -> None:
    """Nobody asks any more for what was started for ``store``."""
    for away in started():
        if away.store == store.absolute():
            shutil.rmtree(away.folder, ignore_errors=True)
    for pid in [pid for pid, child in _children.items() if child.poll() is not None]:
        del _children[pid]


def condition(away: Away) -> str:
    """How it is with a run, in a word: going, interrupted, finished or failed."""
    if is_going(away.store) or _begins(away):
        return "going"
    if is_kept(away.store):
        return "interrupted"
    return "finished" if holds_volume(away.store) else "failed"


def _begins(away: Away) -> bool:
    """Whether it has told nothing in the store yet, and may still."""
    found = begun_at(away.store)
    return (found is None or found.token == away.before) and bool(away.state())


def folder_of_notes() -> Path:
    """Where it is noted what was started elsewhere."""
    return cache_folder() / "away"


def _tail(path: Path, n_bytes: int = 20_000) -> list[str]:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - n_bytes))
            return file.read().decode("utf-8", "replace").replace("\r", "\n").splitlines()
    except OSError:
        return []
