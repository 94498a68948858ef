"""What went wrong, as a sentence for people. It knows plans and errors."""

from __future__ import annotations

from napari_unroll.errors import UnrollError, is_out_of_memory, shortened
from napari_unroll.pipeline.memory import gib
from napari_unroll.pipeline.plan import Plan


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
    card = f", or {plan.card} for patches ({gib(plan.card_bytes)})" if plan.card else ""
    return (
        f"{plan.title} needs more memory than {plan.device} has free ({gib(plan.free_bytes)} at the start; estimate "
        f"{gib(plan.memory_bytes)}){card}. Choose a region, a coarser grid, smaller patches or another device."
    )
