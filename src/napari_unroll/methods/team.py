"""The batches of a pass shared among the processes of one run, which ``torchrun`` starts; alone where there is one.

Every process makes the whole run, except that it applies the network to a part of the patches and hears those of the others.
They arrive in the order of one process, so that the values are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from torch import distributed

from napari_unroll.events import Box
from napari_unroll.interrupt import shielded
from napari_unroll.methods.journal import Patch

Apply = Callable[[list[Box]], Sequence[Patch]]


def has_others() -> bool:
    """Whether this process has joined a group with others."""
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def in_turn(batches: Iterable[list[Box]], apply: Apply) -> Iterator[tuple[list[Box], Sequence[Patch]]]:
    """Every batch of boxes with its patches; in a group a process applies every n-th one."""
    if not has_others():
        for boxes in batches:
            yield boxes, list(apply(boxes))
        return
    waiting, n = list(batches), distributed.get_world_size()
    for first in range(0, len(waiting), n):
        share = waiting[first : first + n]
        yield from zip(share, _exchanged(share, apply), strict=True)


def _exchanged(share: list[list[Box]], apply: Apply) -> list[Sequence[Patch]]:
    """The patches of a batch for each process. What fails in one is raised in all, so that none waits for it."""
    rank = distributed.get_rank()
    mine: Sequence[Patch] | Exception
    try:
        mine = list(apply(share[rank])) if rank < len(share) else []
    except Exception as error:
        mine = error
    told: list[Any] = [None] * distributed.get_world_size()
    with shielded():
        distributed.all_gather_object(told, mine)
    for each in told:
        if isinstance(each, Exception):
            raise each
    return told[: len(share)]
