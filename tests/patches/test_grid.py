"""Grids cover, keep their shape and overlap as asked, for any sizes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from napari_unroll.errors import ParameterError
from napari_unroll.patches.grid import PatchGrid


@pytest.mark.parametrize("shape", [(7, 10, 13), (1, 16, 9), (5, 5, 5)])
@pytest.mark.parametrize("size", [1, 2, 4, 5, 9, 30, (1, 4, 3)])
@pytest.mark.parametrize("overlap", [0, 1, 3, 40])
def test_boxes_cover_with_one_shape_and_the_overlap(shape, size, overlap):
    grid = PatchGrid(shape, size, overlap)
    seen = np.zeros(shape, int)
    for box in grid.boxes:
        assert tuple(s.stop - s.start for s in box) == grid.patch_shape
        assert all(s.start >= 0 and s.stop <= n for s, n in zip(box, shape, strict=True))
        seen[box] += 1
    assert seen.min() >= 1
    assert len({str(b) for b in grid.boxes}) == len(grid)
    for starts, p in zip(grid.starts, grid.patch_shape, strict=True):
        assert all(a + p - b >= min(overlap, p - 1) for a, b in itertools.pairwise(starts))


def test_no_more_boxes_than_needed():
    assert len(PatchGrid((64, 64, 64), 32, 0)) == 8
    assert len(PatchGrid((65, 64, 64), 32, 0)) == 12
    assert len(PatchGrid((1, 64, 64), 64, 8)) == 1


@pytest.mark.parametrize("overlap", [0, 1, 3])
def test_every_voxel_is_one_boxs_own(overlap):
    grid = PatchGrid((7, 10, 13), (9, 4, 5), overlap)
    seen = np.zeros(grid.shape, int)
    for core, box in zip(grid.cores, grid.boxes, strict=True):
        seen[core] += 1
        assert all(b.start <= c.start < c.stop <= b.stop for b, c in zip(box, core, strict=True))
    assert (seen == 1).all()


def test_batches_keep_order():
    grid = PatchGrid((8, 8, 8), 4, 0)
    batches = grid.batches(3)
    assert [len(b) for b in batches] == [3, 3, 2]
    assert [b for batch in batches for b in batch] == grid.boxes
    assert grid.batches(3, grid.boxes[1:5]) == [[grid.boxes[0], *grid.boxes[5:7]], [grid.boxes[7]]]


@pytest.mark.parametrize(("size", "overlap"), [(0, 0), (4, -1), ((4, 4, 0), 0)])
def test_sizes_that_mean_nothing_are_refused(size, overlap):
    with pytest.raises(ParameterError, match="at least one voxel"):
        PatchGrid((8, 8, 8), size, overlap)
