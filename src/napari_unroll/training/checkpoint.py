"""Training state on disk: everything needed to go on after a kill at any moment, and the log.

Written whole or not at all; read with ``weights_only`` so that no code runs.
"""

from __future__ import annotations

import importlib.util
import io
import json
import pickle
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import torch

from napari_unroll.errors import WeightsError
from napari_unroll.io.atomic import replacing
from napari_unroll.io.sealed import unsealed, write_sealed
from napari_unroll.training.tasks.task import Task

MODULES = ("network", "average", "optimizer", "scaler")
MARK = b"napari-unroll training state\n"
"""How a state begins; then come its SHA-256 and what torch saved."""
NUMBERS = ("step", "elapsed", "best", "stale")


class Resumable(Protocol):
    """A training: besides these three it has the modules and numbers named above."""

    device: str
    task: Task
    step: int


class TrainingState:
    """``<name>.state`` (resume) and ``<name>.log.jsonl``; with the package tensorboard also its log in ``tensorboard/``."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._board: Any = None

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Append a line of figures."""
        with self.path.with_suffix(".log.jsonl").open("a") as log:
            log.write(json.dumps({"step": step, **metrics}) + "\n")
        if self._board is None and importlib.util.find_spec("tensorboard"):
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(self.path.parent / "tensorboard"))
        if self._board is not None:
            for name, value in metrics.items():
                self._board.add_scalar(name, value, step)

    def save(self, trainer: Resumable) -> None:
        """Write the state."""
        state = {name: getattr(trainer, name).state_dict() for name in MODULES}
        state |= {name: getattr(trainer, name) for name in NUMBERS}
        state |= {"sampler": trainer.task.sampler.state_dict(), "torch_rng": torch.get_rng_state()}
        with replacing(self.path, overwrite=True) as new:
            write_sealed(new, MARK, state)
            if self.path.is_file():
                self.path.replace(self.previous)
        if self._board is not None:
            self._board.flush()

    @property
    def previous(self) -> Path:
        """The state before the last one: what a training goes on from where the last is damaged."""
        return self.path.with_name(f"{self.path.name}.previous")

    def restore(self, trainer: Resumable) -> str:
        """Go on where the last file that is whole left off; nothing happens where there is none.

        Returns what was damaged, in words, or "". Raises WeightsError where files are whole, but of another network.
        """
        damaged: list[str] = []
        for path in (self.path, self.previous):
            if not path.is_file():
                continue
            content = _content(path)
            if content is not None:
                n_lost = _restore(trainer, content, path)
                lost = [f"{n_lost} of the volumes in use are damaged; others are drawn."] if n_lost else []
                before = [f"{' and '.join(damaged)} is damaged; going on from step {trainer.step}."] if damaged else []
                return " ".join(before + lost)
            damaged.append(path.name)
        return f"{' and '.join(damaged)} cannot be read, it is damaged: training begins anew." if damaged else ""


def _content(path: Path) -> bytes | None:
    """What was saved, or None where that is not what is there now. States without a checksum, of older versions, are taken."""
    content = unsealed(path, MARK)
    if content is None:
        with suppress(OSError):
            older = path.read_bytes()
            return older if older.startswith(b"PK") else None
    return content


def _restore(trainer: Resumable, content: bytes, path: Path) -> int:
    """Go on from what was saved; returns how many of the sampler's open volumes were lost."""
    try:
        state = torch.load(io.BytesIO(content), map_location=trainer.device, weights_only=True)
        for name in MODULES:
            getattr(trainer, name).load_state_dict(state[name])
        for name in NUMBERS:
            setattr(trainer, name, type(getattr(trainer, name))(state[name]))
        torch.set_rng_state(state["torch_rng"].cpu())
        return trainer.task.sampler.load_state_dict(state["sampler"] if "sampler" in state else {"rng": state["rng"]})
    except (RuntimeError, KeyError, ValueError, TypeError, EOFError, OSError, pickle.UnpicklingError) as error:
        raise WeightsError(f"{path.name} is no training state of this network; remove it to start anew.") from error
