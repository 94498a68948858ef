"""Fitted factors on disk: safetensors with a JSON header, never pickle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from napari_unroll.errors import FileFormatError
from napari_unroll.normal.factors import NormalFactors

FORMAT = "napari-unroll normal factors 1"


def save(factors: NormalFactors, path: Any) -> None:
    """Write ``factors`` to ``path``; complex parts are stored as pairs of reals."""
    header = {
        "format": FORMAT,
        "form": factors.form,
        "shape": factors.shape,
        "circular": factors.circular,
        "symmetric": factors.symmetric,
        "pairs": factors.pairs,
        "info": factors.info,
        "complex": [name for name, t in _parts(factors).items() if t.is_complex()],
    }
    tensors = {name: _as_real(t).contiguous().cpu() for name, t in _parts(factors).items()}
    save_file(tensors, str(path), metadata={"napari_unroll": json.dumps(header)})


def load(path: Any, device: torch.device | str = "cpu") -> NormalFactors:
    """Read factors.

    Raises FileFormatError where the file is missing, damaged or holds something else.
    """
    if not Path(path).is_file():
        raise FileFormatError(f"Expected a file of fitted factors at {path}; there is none. Fit the operator again.")
    try:
        with safe_open(str(path), framework="pt", device=str(device)) as file:
            header = json.loads((file.metadata() or {}).get("napari_unroll", "{}"))
            if header.get("format") != FORMAT:
                raise FileFormatError(f"{path} holds no fitted normal operator; choose a file that a fit wrote.")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError, OSError) as error:
        raise FileFormatError(f"{path} cannot be read as fitted factors ({error}); fit the operator again.") from error
    return _build(header, tensors)


def _build(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> NormalFactors:
    t = {n: torch.view_as_complex(v) if n in header["complex"] else v for n, v in tensors.items()}
    left = t.get("left")
    return NormalFactors(
        kernel=t["kernel"],
        left=left,
        right=left if header["symmetric"] else t.get("right"),
        shape=tuple(header["shape"]),
        circular=tuple(header["circular"]),
        form=header["form"],
        pairs=None if header["pairs"] is None else tuple((a, b, k) for a, b, k in header["pairs"]),
        info=header["info"],
    )


def _parts(f: NormalFactors) -> dict[str, torch.Tensor]:
    named = {"kernel": f.kernel, "left": f.left, "right": None if f.symmetric else f.right}
    return {name: t for name, t in named.items() if t is not None}


def _as_real(t: torch.Tensor) -> torch.Tensor:
    return torch.view_as_real(t.resolve_conj()) if t.is_complex() else t
