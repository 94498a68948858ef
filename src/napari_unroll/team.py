"""The processes of one run, which ``torchrun`` starts: work is shared among them, and what comes of it is told to all.

Every process makes the whole run, in the same order, and does a part of what is large: views of X-rays, coils, patches of a pass.
Alone, where there is one process, nothing is told. What fails in one is raised in all, so that none waits for it; that,
and one tensor for all views, is why this is not ``deepinv.distributed``. Knows nothing of what is computed.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar, Token
from typing import Any, TypeVar

import numpy as np
import torch
from torch import distributed

from napari_unroll.errors import UnrollError
from napari_unroll.interrupt import shielded

T = TypeVar("T")
Batch = TypeVar("Batch")
_apart: ContextVar[bool] = ContextVar("apart", default=False)


def n_here() -> int:
    """Processes of this run on this machine, which share its memory and processors."""
    asked = os.environ.get("LOCAL_WORLD_SIZE", "")
    return max(1, int(asked)) if asked.isdigit() else 1


def has_others() -> bool:
    """Whether work is shared: this process has joined a group with others, and is not :class:`apart`."""
    if _apart.get() or not (distributed.is_available() and distributed.is_initialized()):
        return False
    return bool(distributed.get_world_size() > 1)


class apart:  # noqa: N801 (context managers are named as what they are in a sentence)
    """``with apart():`` what runs inside is this process's own share of some work, and not shared again."""

    def __enter__(self) -> None:
        self._token: Token[bool] = _apart.set(True)

    def __exit__(self, *_: object) -> None:
        _apart.reset(self._token)


def exchanged(work: Callable[[], T], what: object) -> list[T]:
    """What ``work`` gives in every process, in their order. What fails in one is raised in all.

    ``what`` says which work it is. Raises UnrollError in all where that differs: one of them has gone another way.
    """
    if not has_others():
        return [work()]
    mine: T | Exception
    try:
        with apart():
            mine = work()
    except Exception as error:
        mine = error
    told: list[Any] = [None] * distributed.get_world_size()
    with shielded():
        distributed.all_gather_object(told, (what, mine))
    if any(each != what for each, _ in told):
        raise UnrollError(
            "The processes of this run no longer do the same work: one ran out of memory, or rounds otherwise. Use machines of "
            "one kind, and smaller patches."
        )
    for _, each in told:
        if isinstance(each, Exception):
            raise each
    return [each for _, each in told]


def in_turn(batches: Iterable[Batch], apply: Callable[[Batch], T]) -> Iterator[tuple[Batch, T]]:
    """Every batch with what ``apply`` makes of it, in order; in a group a process applies every n-th one."""
    if not has_others():
        for batch in batches:
            yield batch, apply(batch)
        return
    waiting, n, rank = list(batches), distributed.get_world_size(), distributed.get_rank()
    for first in range(0, len(waiting), n):
        share = waiting[first : first + n]
        made = exchanged(lambda: apply(share[rank]) if rank < len(share) else None, share)  # noqa: B023 (used at once)
        yield from zip(share, made, strict=False)


def summed(work: Callable[[slice], torch.Tensor], n: int) -> torch.Tensor:
    """Σ over ``range(n)`` of what ``work`` makes of it, each process of a part; equal in all, up to rounding that of one."""
    if not has_others():
        return work(slice(0, n))
    total = _share(work, n).contiguous()
    with shielded():
        distributed.all_reduce(_numbers(total))
    return total


def gathered(work: Callable[[slice], torch.Tensor], n: int) -> torch.Tensor:
    """What ``work`` makes of ``range(n)``, an item of its first axis for each number; each process makes a part."""
    if not has_others():
        return work(slice(0, n))
    mine = _share(work, n)
    whole = torch.empty((n, *mine.shape[1:]), dtype=mine.dtype)
    shares = _shares(n)
    whole[shares[distributed.get_rank()]] = mine
    with shielded():
        for rank, share in enumerate(shares):
            if share.start < share.stop:
                distributed.broadcast(_numbers(whole[share]), rank)
    return whole


def _numbers(x: torch.Tensor) -> torch.Tensor:
    """The real numbers of x, in its memory; gloo knows no complex ones."""
    return torch.view_as_real(x) if x.is_complex() else x


def _share(work: Callable[[slice], torch.Tensor], n: int) -> torch.Tensor:
    """What ``work`` makes of this process's part, once it is known that none failed."""
    made: list[torch.Tensor] = []
    exchanged(lambda: made.append(work(_shares(n)[distributed.get_rank()])), n)
    return made[0]


def _shares(n: int) -> list[slice]:
    """A part of ``range(n)`` for each process, some empty where there are more of these."""
    edges = np.linspace(0, n, distributed.get_world_size() + 1).astype(int).tolist()
    return [slice(a, b) for a, b in itertools.pairwise(edges)]
