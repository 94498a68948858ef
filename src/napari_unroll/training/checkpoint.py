"""Training state on disk: everything needed to go on after a kill at any moment, and the log.

Written whole or not at all; read with ``weights_only`` so that no code runs.
"""

from __future__ import annotations

import importlib.util
import json
import pickle
from pathlib import Path
from typing import Any, Protocol

import torch

from napari_unroll.errors import WeightsError
from napari_unroll.io.atomic import replacing
from napari_unroll.training.tasks.task import Task

MODULES = ("network", "average", "optimizer", "scaler")
NUMBERS = ("step", "elapsed", "best", "stale")


class Resumable(Protocol):
    """A training: besides these two it has the modules and numbers named above."""

    device: str
    task: Task


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
        state |= {"rng": json.dumps(trainer.task.rng.bit_generator.state), "torch_rng": torch.get_rng_state()}
        with replacing(self.path, overwrite=True) as temporary:
            torch.save(state, temporary)
        if self._board is not None:
            self._board.flush()

    def restore(self, trainer: Resumable) -> None:
        """Go on where the file left off; nothing happens where there is none. Raises WeightsError on a damaged file."""
        if not self.path.is_file():
            return
        try:
            state = torch.load(self.path, map_location=trainer.device, weights_only=True)
            for name in MODULES:
                getattr(trainer, name).load_state_dict(state[name])
            for name in NUMBERS:
                setattr(trainer, name, type(getattr(trainer, name))(state[name]))
            trainer.task.rng.bit_generator.state = json.loads(state["rng"])
            torch.set_rng_state(state["torch_rng"].cpu())
        except (RuntimeError, KeyError, ValueError, TypeError, EOFError, OSError, pickle.UnpicklingError) as error:
            raise WeightsError(
                f"{self.path.name} is no training state of this network; remove it to start anew."
            ) from error
