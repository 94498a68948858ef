"""Which number type a network is trained in."""

from __future__ import annotations

import torch

from napari_unroll.errors import ParameterError


def low_precision(asked: str, device: str) -> torch.dtype | None:
    """The type of autocast, None for float32; ``auto`` is bfloat16 on devices with instructions for it.

    Raises ParameterError for float16 on anything but CUDA.
    """
    named = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
    is_cuda = torch.device(device).type == "cuda"
    if asked == "float16" and not is_cuda:
        raise ParameterError("float16 training needs a CUDA device; choose bfloat16 or float32.")
    if asked != "auto":
        return named[asked]
    return torch.bfloat16 if has_bfloat16(device) else None


def has_bfloat16(device: str) -> bool:
    """Whether a device has instructions for bfloat16; without them a processor takes some hundred times longer in it."""
    if torch.device(device).type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # torch before 2.9 cannot tell what the processor does
    able: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return torch.device(device).type == "cpu" and bool(able.get("avx512_bf16") or able.get("amx_bf16"))
