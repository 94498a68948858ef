"""Training state on disk: everything needed to go on after a kill at any moment, and the best network so far.

Written to a temporary file and renamed; read with ``weights_only`` so that no code runs.
"""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from napari_unroll.errors import WeightsError
from napari_unroll.methods.unrolled.checkpoint import save_network

if TYPE_CHECKING:
    from napari_unroll.training.trainer import Trainer


class TrainingState:
    """``<name>.state`` (resume), ``<name>.last.safetensors``, ``<name>.best.safetensors`` and ``<name>.log.jsonl``."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def save(self, trainer: Trainer, is_best: bool, metrics: dict[str, float]) -> None:
        """Write the state, the averaged network, and a line of the log."""
        save_network(trainer.average, self.path.with_suffix(".last.safetensors"))
        if is_best:
            save_network(trainer.average, self.path.with_suffix(".best.safetensors"))
        state = {
            "network": trainer.network.state_dict(),
            "average": trainer.average.state_dict(),
            "optimizer": trainer.optimizer.state_dict(),
            "step": trainer.step,
            "elapsed": trainer.elapsed,
            "best": trainer.best,
            "rng": json.dumps(trainer.sampler.rng.bit_generator.state),
            "torch_rng": torch.get_rng_state(),
        }
        temporary = self.path.with_suffix(".partial")
        torch.save(state, temporary)
        temporary.replace(self.path)
        with self.path.with_suffix(".log.jsonl").open("a") as log:
            log.write(json.dumps({"step": trainer.step, "seconds": round(trainer.elapsed, 1), **metrics}) + "\n")

    def restore(self, trainer: Trainer) -> None:
        """Go on where the file left off; nothing happens where there is none. Raises WeightsError on a damaged file."""
        if not self.path.is_file():
            return
        try:
            state = torch.load(self.path, map_location=trainer.device, weights_only=True)
            trainer.network.load_state_dict(state["network"])
            trainer.average.load_state_dict(state["average"])
            trainer.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, KeyError, ValueError, EOFError, OSError, pickle.UnpicklingError) as error:
            raise WeightsError(
                f"{self.path.name} is no training state of this network; remove it to start anew."
            ) from error
        trainer.step, trainer.elapsed, trainer.best = int(state["step"]), float(state["elapsed"]), float(state["best"])
        trainer.sampler.rng.bit_generator.state = json.loads(state["rng"])
        torch.set_rng_state(state["torch_rng"].cpu())
