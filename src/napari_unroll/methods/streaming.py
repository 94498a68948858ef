"""Batches of patches through the device of a network and back, in order.

Where patches lie on that device already nothing is moved, and the processes of a run share the batches. To a card they leave
from pinned memory, and come back into it, on streams of their own: while it computes one batch, the next is on its way up,
and the last one on its way down or in the hands of whoever asked. Knows neither networks nor volumes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

import torch

from napari_unroll.team import in_turn

Batch = TypeVar("Batch")
Arrival = Callable[[], torch.Tensor]
"""Waits for a copy, and gives it."""
N_IN_FLIGHT = 2
"""Batches whose copies are there at once, of what goes up and of what comes down."""


class Lane(Protocol):
    """The way to a device and back."""

    def up(self, x: torch.Tensor, /) -> torch.Tensor:
        """x there, for work that is asked for from now on; does not wait for the copy."""

    def down(self, x: torch.Tensor, /) -> Arrival:
        """x here, once all is done that was asked for until now; does not wait for it."""


def lane_between(here: torch.device, there: torch.device) -> Lane | None:
    """The way from one device to another, None where they are the same."""
    return None if here == there else CudaLane(there)


def through(
    lane: Lane | None,
    batches: Iterable[Batch],
    cut: Callable[[Batch], torch.Tensor],
    work: Callable[[torch.Tensor], torch.Tensor],
) -> Iterator[tuple[Batch, torch.Tensor]]:
    """Every batch with what ``work`` makes of what is ``cut`` for it, here again, in order.

    Along a lane a batch is given when the next one is under way. Where that fails, what was finished is given first.
    """
    if lane is None:
        yield from in_turn(batches, lambda batch: work(cut(batch)))
        return
    last: tuple[Batch, Arrival] | None = None
    for batch in batches:
        try:
            begun = batch, lane.down(work(lane.up(cut(batch))))
        except Exception:
            if last is not None:
                yield last[0], last[1]()
            raise
        if last is not None:
            yield last[0], last[1]()
        last = begun
    if last is not None:
        yield last[0], last[1]()


class CudaLane:
    """From the computer's memory to a card; copies wait for nothing but what they need. Not yet run on a card; see docs/gpu.md.

    Pinned blocks are torch's, which uses them again once their copies are made; so is the card's memory, by ``record_stream``.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._up, self._down = torch.cuda.Stream(device), torch.cuda.Stream(device)

    def up(self, x: torch.Tensor) -> torch.Tensor:
        """x on the card."""
        with torch.cuda.stream(self._up):
            there = x.pin_memory().to(self.device, non_blocking=True)
        computing = torch.cuda.current_stream(self.device)
        computing.wait_stream(self._up)
        there.record_stream(computing)
        return there

    def down(self, x: torch.Tensor) -> Arrival:
        """x in pinned memory."""
        here = torch.empty(x.shape, dtype=x.dtype, pin_memory=True)
        self._down.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self._down):
            here.copy_(x, non_blocking=True)
        x.record_stream(self._down)
        arrived = self._down.record_event()

        def wait() -> torch.Tensor:
            arrived.synchronize()
            return here

        return wait
