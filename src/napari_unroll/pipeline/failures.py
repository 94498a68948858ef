"""What went wrong, as a sentence for people. Torch tells of exhausted memory in several ways; they are told apart here."""

from __future__ import annotations

import torch

from napari_unroll.errors import UnrollError, shortened
from napari_unroll.pipeline.memory import gib
from napari_unroll.pipeline.plan import Plan


EXHAUSTED = ("not enough memory", "out of memory", "can't allocate", "status_alloc_failed", "status_not_initialized")
"""How torch, cuBLAS and cuDNN say that memory is exhausted, in lower case; the last is what a library says that has no room
for its own workspace."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch or numpy could not allocate: on CUDA a class of its own, on the CPU a RuntimeError with a text."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(sign in text for sign in EXHAUSTED)


def translate(error: BaseException, plan: Plan) -> str:
    """The sentence that a user reads for an error."""
    if isinstance(error, UnrollError):
        return str(error)
    if is_out_of_memory(error):
        return memory_advice(plan)
    first = shortened((str(error).strip().splitlines() or [""])[0], 150)
    return f"{plan.title} stopped with an unexpected {type(error).__name__}: {first or 'no message'}. The log has the details."


def memory_advice(plan: Plan) -> str:
    """What to do when the work does not fit."""
    return (
        f"{plan.title} needs more memory than {plan.device} has free ({gib(plan.free_bytes)} at the start; estimate "
        f"{gib(plan.memory_bytes)}). Choose a region, a coarser grid, smaller patches or another device."
    )
