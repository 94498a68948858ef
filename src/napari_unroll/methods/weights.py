"""Trained networks on disk: safetensors with the architecture in its header; never pickle.

A header says what ``kind`` of network the file holds, in which ``version`` of the format, for which method; each pair of kind
and version has its reader. A model card (JSON beside the file) tells what the network was trained on. Shipped ones live in
``napari_unroll.weights`` and are found by name; any other is a path.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch.nn.modules.module import register_module_parameter_registration_hook

from napari_unroll.errors import WeightsError
from napari_unroll.io.atomic import write_bytes, write_text
from napari_unroll.io.checksums import digest, is_unchanged
from napari_unroll.methods import weights_version_1
from napari_unroll.methods.algorithms.network import Network, NetworkConfig
from napari_unroll.methods.domain import outside
from napari_unroll.scan.scan import MODALITIES, Modality, Scan

MAX_BYTES = 2 * 1024**3
SMALLEST_NUMBER = 2
"""Bytes of a stored parameter: float16."""
KIND, VERSION = "network", "2"

Tensors = dict[str, torch.Tensor]
Header = dict[str, str]


@dataclass(frozen=True)
class Weights:
    """A checkpoint that exists: its name, file and model card."""

    name: str
    path: Path
    card: dict[str, Any]

    @cached_property
    def sha256(self) -> str:
        """Hash of the file, for provenance."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()

    @cached_property
    def header(self) -> Header:
        """What the file says of itself. Raises WeightsError."""
        return read_header(self.path)

    @property
    def method(self) -> str:
        """Name of the method that the network was trained for. Raises WeightsError."""
        return self.header["method"]

    @cached_property
    def config(self) -> NetworkConfig:
        """The architecture, from the header alone. Raises WeightsError."""
        return _config(self.path, self.header)

    @property
    def modality(self) -> Modality:
        """That of the card; without one, mri for complex volumes and ct for real ones."""
        named = self.card.get("modality")
        return next((m for m in MODALITIES if m == named), "mri" if self.config.prior.complex_valued else "ct")


@cache
def shipped() -> Mapping[str, Weights]:
    """The checkpoints that come with the package, by name; looked for once."""
    folder = Path(str(files("napari_unroll.weights")))
    return MappingProxyType({p.stem: Weights(p.stem, p, _card(p)) for p in sorted(folder.glob("*.safetensors"))})


def shipped_for(method: str, modality: str | None = None) -> list[Weights]:
    """The shipped checkpoints of a method, of one modality where it is given: the card's ``default`` first, then by name."""
    own = (w for w in shipped().values() if w.method == method and modality in (None, w.modality))
    return sorted(own, key=lambda w: not w.card.get("default"))


def find(name_or_path: str) -> Weights:
    """A shipped checkpoint by name, or a file by path. Raises WeightsError where there is neither."""
    known = shipped()
    if name_or_path in known:
        return known[name_or_path]
    path = Path(name_or_path)
    if path.suffix != ".safetensors" or not os.path.isfile(path):  # noqa: PTH113 (that of pathlib raises for long names)
        raise WeightsError(
            f"No weights called {name_or_path[:80]!r}: expected one of {sorted(known) or 'none shipped'} or a .safetensors file."
        )
    return Weights(path.stem, path, _card(path))


def select_weights(method: str, scan: Scan, name: str) -> Weights:
    """The weights of that name or file; auto: shipped ones of this method for such scans. Raises WeightsError.

    Of several (see ``shipped_for``) the first in whose domain the scan lies, or the very first where it lies in none.
    """
    if name != "auto":
        return find(name)
    own = shipped_for(method, scan.modality)
    if not own:
        raise WeightsError(
            f"No {method} weights for {MODALITIES[scan.modality]} are shipped; train some (napari-unroll train --method "
            f"{method}) or choose a .safetensors file."
        )
    return own[0] if len(own) == 1 else next((w for w in own if not outside(w.card, scan)), own[0])


def load(weights: Weights, methods: Sequence[str], complex_valued: bool, device: torch.device | str) -> Network:
    """The network of ``weights``. Raises WeightsError where it is for none of ``methods``, or for another modality."""
    if weights.card.get("sha256", weights.sha256) != weights.sha256:
        raise WeightsError(
            f"{weights.path.name} is not the file that its card {weights.path.with_suffix('.json').name} describes: one of them "
            "is damaged or from elsewhere. Copy both again, or remove the card."
        )
    network = load_network(weights.path, device)
    if network.config.prior.complex_valued != complex_valued:
        complex_, real = "complex (MRI)", "real (CT, images)"
        kind, scan = (complex_, real) if network.config.prior.complex_valued else (real, complex_)
        raise WeightsError(f"{weights.name} is for {kind} volumes, this scan is {scan}; choose other weights.")
    if weights.method not in methods:
        raise WeightsError(
            f"{weights.name} was trained for {weights.method}, not for {' or '.join(methods)}; choose other weights or "
            "that method."
        )
    return network


def _card(path: Path) -> dict[str, Any]:
    card = path.with_suffix(".json")
    try:
        found = json.loads(card.read_text(encoding="utf-8")) if card.is_file() else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def save_network(
    network: Network,
    path: Path,
    method: str,
    card: dict[str, Any] | None = None,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write weights and architecture, and the model card beside them, with the hash of the file.

    As float16 a file has half the size, and its weights have an error of 0.05 %; they are read as float32 again.
    """
    tensors = {k: v.detach().to("cpu", dtype).contiguous() for k, v in network.state_dict().items()}
    about = {"kind": KIND, "version": VERSION, "method": method, "config": network.config.model_dump_json()}
    about["sha256"] = digest(about, tensors)
    write_bytes(path, save(tensors, about))  # safetensors' own files can be read by their owner only
    if card is not None:
        card = {**card, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        write_text(path.with_suffix(".json"), json.dumps(card, indent=2, ensure_ascii=False) + "\n")


def load_network(path: Path, device: torch.device | str = "cpu") -> Network:
    """Read a network. Raises WeightsError where the file is damaged, too large or of another kind."""
    header = read_header(path)
    network = _build(_config(path, header), path)
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            _check_tensors(path, file.metadata() or {}, tensors)
        network.load_state_dict(_READERS[header["kind"], header["version"]].tensors(tensors, network.config))
    except (SafetensorError, KeyError, RuntimeError, OSError) as error:
        raise _no_network(path, error) from error
    return network.to(device).eval().requires_grad_(False)


def _check_tensors(path: Path, header: Header, tensors: Tensors) -> None:
    """Raise where tensors are not those that were written (older files do not tell), or hold NaN or infinity."""
    about = {name: text for name, text in header.items() if name != "sha256"}
    if not is_unchanged(header.get("sha256"), about, tensors):
        raise WeightsError(
            f"{path.name} is not what was written: it is damaged. Copy it again, or choose other weights."
        )
    if not all(bool(torch.isfinite(values).all()) for values in tensors.values()):
        raise WeightsError(f"{path.name} holds weights that are NaN or infinite; choose other weights.")


def read_header(path: Path) -> Header:
    """kind, version, method and config of a checkpoint. Raises WeightsError."""
    if path.stat().st_size > MAX_BYTES:
        raise WeightsError(f"{path.name} has {path.stat().st_size} bytes; checkpoints of at most {MAX_BYTES} are read.")
    try:
        with safe_open(path, framework="pt") as file:
            header = {"version": "1", **(file.metadata() or {})}
        reader = _READERS[header["kind"], header["version"]]
        return {**header, "method": header.get("method") or reader.method(header["config"])}
    except (SafetensorError, KeyError, ValueError, TypeError, AttributeError, RecursionError, OSError) as error:
        raise _no_network(path, error) from error


def _config(path: Path, header: Header) -> NetworkConfig:
    reader = _READERS[header["kind"], header["version"]]
    try:
        return NetworkConfig.model_validate(reader.config(header["config"]))
    except (ValidationError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _no_network(path, error) from error


def _build(config: NetworkConfig, path: Path) -> Network:
    """The network of ``config``, of no more parameters than the file has room for: small files cannot ask for gigabytes.

    Raises WeightsError at the first layer beyond that.
    """
    room, builder = path.stat().st_size // SMALLEST_NUMBER, threading.get_ident()
    declared = 0

    def count(module: torch.nn.Module, name: str, parameter: torch.nn.Parameter | None) -> None:
        nonlocal declared
        if threading.get_ident() == builder and parameter is not None:
            declared += parameter.numel()
        if declared > room:
            raise WeightsError(
                f"{path.name} describes a network of more parameters than its {path.stat().st_size} bytes can hold; it is "
                "damaged, or was not written by this program. Choose other weights."
            )

    counting = register_module_parameter_registration_hook(count)
    try:
        return Network(config)
    finally:
        counting.remove()


def _no_network(path: Path, error: Exception) -> WeightsError:
    return WeightsError(
        f"{path.name} is not a checkpoint of a network that this version knows ({type(error).__name__}); "
        "expected a .safetensors file written by napari-unroll's training."
    )


@dataclass(frozen=True)
class _Reader:
    """How one kind and version is read: its config as plain values, its tensors by their names in ``Network``."""

    config: Callable[[str], Any]
    tensors: Callable[[Tensors, NetworkConfig], Tensors]
    method: Callable[[str], str]


def _unnamed(config: str) -> str:
    raise KeyError("method")


_READERS = {
    (KIND, VERSION): _Reader(json.loads, lambda tensors, config: tensors, _unnamed),
    ("unrolled-pgd", "1"): _Reader(weights_version_1.config, weights_version_1.tensors, weights_version_1.method),
}
