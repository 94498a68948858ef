"""deepinv's Reconstruct Anything Model as a denoiser of slices: its weights found on this machine, never downloaded.

Terris et al., "Reconstruct Anything Model: a lightweight foundation model for computational imaging" (2025), arXiv 2503.08915.
A file is read as safetensors or, as it is published, by torch with ``weights_only``, so that no code in it can run.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from deepinv.models import RAM
from safetensors import SafetensorError
from safetensors.torch import load_file

from napari_unroll.errors import WeightsError
from napari_unroll.methods.weights import Weights

FILE = "ram.pth.tar"
URL = f"https://huggingface.co/mterris/ram/resolve/main/{FILE}"
N_BYTES = 4 * 35_700_000
"""Its parameters, float32."""
PIXELS = 64 * 64
"""Of the slices of one pass, where they are smaller than that: small slices take as long as this."""
OPTIONAL = {"fact_realign"}
"""Parameters that deepinv reads where a file has them."""
SUFFIXES = {".safetensors", ".tar", ".pth", ".pt"}


def find(name_or_path: str) -> Weights:
    """The weights in a file, or with auto those in the hub's cache. Raises WeightsError where there are none."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / FILE if name_or_path == "auto" else Path(name_or_path)
    if not path.is_file():
        raise WeightsError(
            f"There is no file {path}: download the weights of RAM (35.6 million parameters) from {URL} and put them there, "
            "or give their file as weights."
        )
    if path.suffix not in SUFFIXES:
        raise WeightsError(f"{path.name} is no file of RAM's weights; expected {FILE} or a .safetensors file.")
    return Weights(path.name, path, {"source": URL})


def load(weights: Weights, device: torch.device | str = "cpu") -> RAMDenoiser:
    """The model with these weights. Raises WeightsError where the file is damaged or holds another network."""
    model = RAM(pretrained=False)
    try:
        missing, _ = model.load_state_dict(_tensors(weights.path, device), strict=False)
        if set(missing) - OPTIONAL:
            raise KeyError(missing[0])
    except (
        SafetensorError,
        RuntimeError,
        pickle.UnpicklingError,
        KeyError,
        ValueError,
        TypeError,
        EOFError,
        OSError,
    ) as error:
        raise WeightsError(
            f"{weights.path.name} does not hold the weights of RAM ({type(error).__name__}); download them again from {URL}."
        ) from error
    return RAMDenoiser(model.to(device).eval().requires_grad_(False))


def _tensors(path: Path, device: torch.device | str) -> dict[str, torch.Tensor]:
    if path.suffix == ".safetensors":
        return load_file(path)
    return dict(torch.load(path, map_location=device, weights_only=True))


def activation_bytes(patch: tuple[int, int, int]) -> int:
    """Peak bytes of one pass over the slices of two patches, measured."""
    z, y, x = patch
    return 2 * 64 * 4 * 12 * z * y * x


class RAMDenoiser:
    """D(x, σ) on volumes (batch, 1, z, y, x), slice by slice; complex ones as two channels."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.model = model

    def __call__(self, x: torch.Tensor, sigma: float) -> torch.Tensor:
        """The cleaned volume."""
        channels = torch.cat((x.real, x.imag), 1) if x.is_complex() else x
        slices = channels.transpose(1, 2).flatten(0, 1)
        n_batch = max(1, PIXELS // (x.shape[-1] * x.shape[-2]))
        cleaned = torch.cat([self.model(part, sigma=sigma) for part in slices.split(n_batch)]).float()
        volume = cleaned.unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2)
        return torch.complex(volume[:, :1], volume[:, 1:]) if x.is_complex() else volume
