"""Cutting a volume into equally shaped, overlapping boxes. Knows shapes only."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, product

from napari_unroll.errors import ParameterError
from napari_unroll.events import Box

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class PatchGrid:
    """Boxes of one shape that cover ``shape`` (z, y, x), neighbours sharing at least ``overlap`` voxels.

    ``patch_size`` is an edge or (z, y, x) and is clipped to the volume; ``overlap`` is clipped below the patch. The
    boxes of an axis are spaced evenly, so the last one ends at the border and none leaves the volume.

    Raises ParameterError for a patch below one voxel or a negative overlap.
    """

    shape: Shape
    patch_size: int | Shape
    overlap: int | Shape = 0

    def __post_init__(self) -> None:
        if min(_triple(self.patch_size)) < 1 or min(_triple(self.overlap)) < 0 or min(self.shape) < 1:
            raise ParameterError(
                f"Patches need at least one voxel per axis and an overlap of zero or more; "
                f"got patch size {self.patch_size} and overlap {self.overlap} for the volume {self.shape}."
            )

    @property
    def patch_shape(self) -> Shape:
        """(z, y, x) of every box."""
        return tuple(min(p, n) for p, n in zip(_triple(self.patch_size), self.shape, strict=True))  # type: ignore[return-value]

    @cached_property
    def starts(self) -> tuple[tuple[int, ...], ...]:
        """First voxels of the boxes along z, y, x."""
        axes = zip(self.shape, self.patch_shape, _triple(self.overlap), strict=True)
        return tuple(_starts(n, p, min(o, p - 1)) for n, p, o in axes)

    @cached_property
    def boxes(self) -> list[Box]:
        """All boxes, x fastest."""
        z, y, x = self.patch_shape
        return [(slice(a, a + z), slice(b, b + y), slice(c, c + x)) for a, b, c in product(*self.starts)]

    def __len__(self) -> int:
        return math.prod(len(starts) for starts in self.starts)

    @cached_property
    def edges(self) -> tuple[tuple[int, ...], ...]:
        """Along z, y, x where the part of the volume begins that is each box's own, half of every overlap, and the end."""
        axes = zip(self.starts, self.patch_shape, self.shape, strict=True)
        return tuple((0, *((a + p + b) // 2 for a, b in pairwise(starts)), n) for starts, p, n in axes)

    @property
    def cores(self) -> list[Box]:
        """The part of the volume that is each box's own, in the order of ``boxes``."""
        return [(z, y, x) for z, y, x in product(*([slice(*e) for e in pairwise(edges)] for edges in self.edges))]

    def batches(self, size: int, without: Collection[Box] = ()) -> list[list[Box]]:
        """The boxes in groups of at most ``size``, ``without`` these and what lies within one of them."""
        same = {_corner(box) for box in without if _extent(box) == self.patch_shape}
        others = [box for box in without if _extent(box) != self.patch_shape]
        boxes = [b for b in self.boxes if _corner(b) not in same and not any(_within(b, box) for box in others)]
        return [boxes[i : i + size] for i in range(0, len(boxes), max(1, size))]


def _corner(box: Box) -> tuple[int, ...]:
    return tuple(b.start for b in box)


def _extent(box: Box) -> tuple[int, ...]:
    return tuple(b.stop - b.start for b in box)


def _within(inner: Box, outer: Box) -> bool:
    return all(a.start >= b.start and a.stop <= b.stop for a, b in zip(inner, outer, strict=True))


def _starts(n: int, p: int, overlap: int) -> tuple[int, ...]:
    if p >= n:
        return (0,)
    count = -(-(n - overlap) // (p - overlap))
    return tuple(round(i * (n - p) / (count - 1)) for i in range(count))


def _triple(value: int | Shape) -> Shape:
    return (value, value, value) if isinstance(value, int) else value
