"""The state of a run as plain containers of tensors and numbers, and back: what may be written, and read without running code.

Only the classes named here come back; a state that holds anything else cannot be kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import torch

from napari_unroll.methods.algorithms.iterations import State
from napari_unroll.methods.algorithms.patch_history import PatchHistory
from napari_unroll.methods.classical.momentum import Momentum
from napari_unroll.methods.equilibrium.config import EquilibriumConfig
from napari_unroll.methods.equilibrium.search import Anderson, Search
from napari_unroll.methods.journal import Patch
from napari_unroll.methods.patchwise import WINDOW
from napari_unroll.patches.grid import PatchGrid

KINDS = {c.__name__: c for c in (State, Search, Anderson, PatchHistory, PatchGrid, Patch, Momentum)}
RECORDS = {c.__name__: c for c in (EquilibriumConfig,)}
Tagged = tuple[str, Any]


def to_plain(value: Any) -> Any:
    """Plain containers for ``value``; raises TypeError where it holds what is not known here.

    A pass under way is left out: its patches are kept one by one.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, torch.Tensor):
        return value.detach()
    name = type(value).__name__
    if isinstance(value, np.ndarray):
        return "array", torch.from_numpy(value)
    if isinstance(value, Mapping):
        return "dict", [(to_plain(k), to_plain(v)) for k, v in value.items() if k != WINDOW]
    if isinstance(value, list | tuple):
        return ("list" if isinstance(value, list) else "tuple"), [to_plain(v) for v in value]
    if isinstance(value, slice):
        return "slice", [value.start, value.stop]
    if RECORDS.get(name) is type(value):
        return "record", [name, value.model_dump()]
    if KINDS.get(name) is type(value):
        return "object", [name, {k: to_plain(v) for k, v in _fields(value).items()}]
    raise TypeError(f"A {name} cannot be kept.")


def _fields(value: Any) -> dict[str, Any]:
    """Of a dataclass what it was made of, of other objects all that they hold."""
    return {f.name: getattr(value, f.name) for f in fields(value)} if is_dataclass(value) else vars(value)


def from_plain(plain: Any) -> Any:
    """The value again. Raises ValueError, KeyError or TypeError where this is none of ours."""
    if not isinstance(plain, tuple):
        return plain
    tag, content = plain
    if tag == "array":
        return content.cpu().numpy()
    if tag == "dict":
        return {from_plain(k): from_plain(v) for k, v in content}
    if tag in ("list", "tuple"):
        found = [from_plain(v) for v in content]
        return found if tag == "list" else tuple(found)
    if tag == "slice":
        return slice(*content)
    if tag == "record":
        return RECORDS[content[0]].model_validate(content[1])
    if tag != "object":
        raise ValueError(f"{tag!r} is nothing that is kept.")
    kind = KINDS[content[0]]
    value = object.__new__(kind)
    for name, part in content[1].items():
        object.__setattr__(value, name, from_plain(part))
    return value
