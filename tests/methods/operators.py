"""A data term made of two functions, for tests of networks that need no scan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

Map = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Plain:
    """The same data term around every iterate; ``inverse`` is M, whatever α and degree are asked for."""

    gradient: Map
    inverse: Map = lambda g: g

    def at(self, x: torch.Tensor, k: int) -> Plain:
        return self

    def preconditioner(self, alpha: float | None, degree: int = 0) -> Map:
        return self.inverse
