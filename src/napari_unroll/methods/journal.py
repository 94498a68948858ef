"""What a run tells of its work while it goes, so that somebody may keep it outside of the process; nothing is kept here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from napari_unroll.events import Box


@dataclass(frozen=True)
class Patch:
    """What became of a patch: ``values`` (1, z, y, x), and how far it is from the data where that is known."""

    box: Box
    values: torch.Tensor
    consistency: float | None = None


class Journal:
    """Hears of every pass over the patches of a volume; this one keeps nothing."""

    def begin(self, name: str) -> list[list[Patch]]:
        """A pass begins, from what the problem's state holds now; returns the patches that an earlier process finished in it.

        They come as they were added, a batch each.
        """
        return []

    def add(self, patches: Sequence[Patch]) -> None:
        """A batch of patches of this pass is done."""
