"""Trained networks on disk: safetensors with the architecture in its header; never pickle.

A model card (JSON beside the file) tells what the network was trained on. Shipped ones live in ``napari_unroll.weights`` and
are found by name; any other is a path.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from napari_unroll.errors import WeightsError
from napari_unroll.io.atomic import write_bytes, write_text
from napari_unroll.methods.unrolled.network import UnrolledConfig, UnrolledPGD

MAX_BYTES = 2 * 1024**3


@dataclass(frozen=True)
class Weights:
    """A checkpoint that exists: its name, file and model card."""

    name: str
    path: Path
    card: dict[str, Any]

    @property
    def sha256(self) -> str:
        """Hash of the file, for provenance."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()


def shipped() -> dict[str, Weights]:
    """The checkpoints that come with the package, by name."""
    folder = Path(str(files("napari_unroll.weights")))
    return {p.stem: Weights(p.stem, p, _card(p)) for p in sorted(folder.glob("*.safetensors"))}


def find(name_or_path: str) -> Weights:
    """A shipped checkpoint by name, or a file by path. Raises WeightsError where there is neither."""
    known = shipped()
    if name_or_path in known:
        return known[name_or_path]
    path = Path(name_or_path)
    if path.suffix != ".safetensors" or not path.is_file():
        raise WeightsError(
            f"No weights called {name_or_path!r}: expected one of {sorted(known) or 'none shipped'} or a .safetensors file."
        )
    return Weights(path.stem, path, _card(path))


def default_for(modality: str, task: str) -> Weights:
    """The shipped checkpoint whose card names this modality and task ("unrolled" or "post-processing")."""
    for weights in shipped().values():
        if weights.card.get("modality") == modality and weights.card.get("task") == task:
            return weights
    raise WeightsError(
        f"No {task} weights for {modality.upper()} are shipped; train some or choose a .safetensors file."
    )


def _card(path: Path) -> dict[str, Any]:
    card = path.with_suffix(".json")
    try:
        return dict(json.loads(card.read_text())) if card.is_file() else {}
    except (OSError, ValueError):
        return {}


def save_network(
    network: UnrolledPGD, path: Path, card: dict[str, Any] | None = None, dtype: torch.dtype = torch.float32
) -> None:
    """Write weights and architecture, and the model card beside them, with the hash of the file.

    As float16 a file has half the size, and its weights have an error of 0.05 %; they are read as float32 again.
    """
    tensors = {k: v.detach().to("cpu", dtype).contiguous() for k, v in network.state_dict().items()}
    about = {"config": network.config.model_dump_json(), "kind": "unrolled-pgd"}
    write_bytes(path, save(tensors, about))  # safetensors' own files can be read by their owner only
    if card is not None:
        card = {**card, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        write_text(path.with_suffix(".json"), json.dumps(card, indent=2, ensure_ascii=False) + "\n")


def load_network(path: Path, device: torch.device | str = "cpu") -> UnrolledPGD:
    """Read a network. Raises WeightsError where the file is damaged, too large or of another kind."""
    if path.stat().st_size > MAX_BYTES:
        raise WeightsError(f"{path.name} has {path.stat().st_size} bytes; checkpoints of at most {MAX_BYTES} are read.")
    try:
        with safe_open(path, framework="pt") as file:
            config = UnrolledConfig.model_validate_json((file.metadata() or {})["config"])
            network = UnrolledPGD(config)
            network.load_state_dict({key: file.get_tensor(key) for key in file.keys()})  # noqa: SIM118
    except (SafetensorError, KeyError, ValidationError, RuntimeError, OSError) as error:
        raise WeightsError(
            f"{path.name} is not a checkpoint of an unrolled network ({type(error).__name__}); "
            "expected a .safetensors file written by napari-unroll's training."
        ) from error
    return network.to(device).eval().requires_grad_(False)
