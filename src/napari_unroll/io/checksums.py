"""Checksums of what is written here and read back: what was damaged meanwhile is made again, never believed.

It knows tensors, arrays and plain facts, no formats.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch


def is_unchanged(noted: str | None, about: Any, arrays: Mapping[str, torch.Tensor | np.ndarray]) -> bool:
    """Whether the digest that was noted is that of what was read; older files note none, and are believed."""
    return noted is None or noted == digest(about, arrays)


def digest(about: Any, arrays: Mapping[str, torch.Tensor | np.ndarray]) -> str:
    """SHA-256, in hexadecimal, of plain facts (JSON values) and of real tensors or arrays by name."""
    found = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name in sorted(arrays):
        array = torch.as_tensor(arrays[name]).detach().cpu().contiguous()
        found.update(f"{name} {array.dtype} {tuple(array.shape)}".encode())
        found.update(array.flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()
