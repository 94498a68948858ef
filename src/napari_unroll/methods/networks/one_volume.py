"""Convolutions of one volume on the CPU by oneDNN, which torch takes for two volumes and for large ones only.

For a batch of one torch chooses its own convolution wherever channels × depth × height are at most 20,480, in any memory
format (``ConvParams::use_mkldnn`` in ATen/native/Convolution.cpp of torch 2.15). That is four to ten times slower.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class _OneVolume(TorchFunctionMode):
    """Takes the place of ``conv3d``; everything else, and padding by words, is torch's."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.conv3d and not kwargs and len(args) == 7 and not isinstance(args[4], str):
            x, weight, bias, stride, padding, dilation, groups = args
            return torch.mkldnn_convolution(x, weight, bias, _three(padding), _three(stride), _three(dilation), groups)
        return func(*args, **(kwargs or {}))


def one_volume(x: torch.Tensor) -> AbstractContextManager[Any]:
    """``with one_volume(x):`` a network is applied to x (batch, channel, z, y, x); without gradients only."""
    is_plain = x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    is_one = x.ndim == 5 and len(x) == 1 and not torch.is_grad_enabled()
    return _OneVolume() if is_one and is_plain and torch.backends.mkldnn.is_available() else nullcontext()


def _three(size: Any) -> tuple[int, int, int]:
    """One number, or one for each axis."""
    z, y, x = (size,) * 3 if isinstance(size, int) else size
    return z, y, x
