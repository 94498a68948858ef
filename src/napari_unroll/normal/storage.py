"""Fitted factors and interrupted fits on disk: safetensors with a JSON header, written whole or not at all, never pickle."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from napari_unroll.errors import FileFormatError
from napari_unroll.io.atomic import replacing
from napari_unroll.io.checksums import digest
from napari_unroll.normal.factors import NormalFactors
from napari_unroll.normal.fit import FitState

FACTORS = "napari-unroll normal factors 2"
STATE = "napari-unroll interrupted fit 2"


def save(factors: NormalFactors, path: Any) -> None:
    """Write ``factors`` to ``path``, replacing what is there; complex parts are stored as pairs of reals."""
    header = {
        "form": factors.form,
        "shape": factors.shape,
        "circular": factors.circular,
        "symmetric": factors.symmetric,
        "pairs": factors.pairs,
        "polynomial": factors.polynomial,
        "positive_kernel": factors.positive_kernel,
        "exact": factors.exact,
        "info": factors.info,
    }
    _write(Path(path), FACTORS, header, _parts(factors))


def load(path: Any, device: torch.device | str = "cpu") -> NormalFactors:
    """Read factors.

    Raises FileFormatError where the file is missing, damaged or holds something else.
    """
    header, t = _read(Path(path), FACTORS, device)
    left = t.get("left")
    with _sound(Path(path)):
        return _factors(header, t, left)


def _factors(header: Mapping[str, Any], t: Mapping[str, torch.Tensor], left: torch.Tensor | None) -> NormalFactors:
    return NormalFactors(
        kernel=t["kernel"],
        left=left,
        right=left if header["symmetric"] else t.get("right"),
        shape=tuple(header["shape"]),
        circular=tuple(header["circular"]),
        form=header["form"],
        pairs=None if header["pairs"] is None else tuple((a, b, k) for a, b, k in header["pairs"]),
        polynomial=bool(header.get("polynomial", False)),
        positive_kernel=bool(header.get("positive_kernel", False)),
        exact=bool(header.get("exact", False)),
        info=header["info"],
    )


def save_state(state: FitState, path: Path) -> None:
    """Write what an interrupted fit has learned, replacing what is there."""
    assert state.sampler is not None
    samples = {kind: values.tolist() for kind, values in state.samples.items()}
    _write(
        path,
        STATE,
        {"history": state.history, "samples": samples, "is_settled": state.is_settled},
        state.sampler.tensors(),
    )


def load_state(path: Path, device: torch.device | str = "cpu") -> FitState:
    """The state of an interrupted fit, to hand to ``fit`` with the same physics and options.

    Raises FileFormatError where the file is missing, damaged or holds something else.
    """
    header, tensors = _read(path, STATE, device)
    with _sound(path):
        samples = {kind: np.array(values) for kind, values in header["samples"].items()}
        is_settled = bool(header.get("is_settled", False))
        return FitState(stored=tensors, history=header["history"], samples=samples, is_settled=is_settled)


def _parts(f: NormalFactors) -> dict[str, torch.Tensor]:
    named = {"kernel": f.kernel, "left": f.left, "right": None if f.symmetric else f.right}
    return {name: t for name, t in named.items() if t is not None}


def _write(path: Path, mark: str, header: dict[str, Any], tensors: Mapping[str, torch.Tensor]) -> None:
    about = header | {"format": mark, "complex": [name for name, t in tensors.items() if t.is_complex()]}
    plain = {name: _as_real(t).contiguous().cpu() for name, t in tensors.items()}
    about["sha256"] = digest(about, plain)
    with replacing(path, overwrite=True) as temporary:
        try:
            save_file(plain, str(temporary), metadata={"napari_unroll": json.dumps(about)})
        except SafetensorError as error:  # a full disk, which the system's own errors tell elsewhere
            raise OSError(f"{path.name} cannot be written: {error}") from error


def _read(path: Path, mark: str, device: torch.device | str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    if not path.is_file():
        raise FileFormatError(f"Expected a file of fitted factors at {path}; there is none. Fit the operator again.")
    with _sound(path):
        with safe_open(str(path), framework="pt", device=str(device)) as file:
            header = json.loads((file.metadata() or {}).get("napari_unroll", "{}"))
            if header.get("format") != mark:
                raise FileFormatError(f"{path} holds no fitted normal operator; choose a file that a fit wrote.")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if header.pop("sha256", None) != digest(header, tensors):
            raise ValueError("what was read is not what was written")
        return header, {n: torch.view_as_complex(v) if n in header["complex"] else v for n, v in tensors.items()}


@contextmanager
def _sound(path: Path) -> Iterator[None]:
    """Whatever a damaged file raises leaves as a FileFormatError."""
    try:
        yield
    except FileFormatError:
        raise
    except Exception as error:
        raise FileFormatError(f"{path} cannot be read as fitted factors ({error}); fit the operator again.") from error


def _as_real(t: torch.Tensor) -> torch.Tensor:
    return torch.view_as_real(t.resolve_conj()) if t.is_complex() else t
