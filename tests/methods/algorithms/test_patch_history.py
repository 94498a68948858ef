"""Which patches of a search are left out, and that they are taken up again when what they are given moves."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from napari_unroll.events import FixedPoint, result_of
from napari_unroll.methods.algorithms.patch_history import PatchHistory
from napari_unroll.methods.journal import Patch
from napari_unroll.methods.patchwise import Stage, sliding_window
from napari_unroll.patches.context import cut
from napari_unroll.patches.grid import PatchGrid
from napari_unroll.team import in_turn

GRID = PatchGrid((4, 4, 8), 4)


def passes(history, given):
    """A pass of x ↦ 2x over ``given``."""

    def double(boxes):
        return [Patch(box, 2 * values) for box, values in zip(boxes, cut(given, boxes), strict=True)]

    work = partial(in_turn, apply=double)
    return result_of(history.watch(given, lambda done=None: sliding_window(GRID, given, work, Stage(""), done=done)))


def test_a_patch_rests_until_its_input_moved_by_more_than_the_bound_since_it_was_seen():
    history, given = PatchHistory(GRID, keeps=True), torch.ones(1, 1, *GRID.shape)
    seen = [passes(history, given)]
    history.bound = 0.1
    for step in range(1, 4):
        moved = given.clone()
        moved[..., 4:] += 0.04 * step  # each step is below the bound, the third is not below it together
        seen.append(passes(history, moved))
        assert history.is_whole is False
    assert history.evaluations.tolist() == [[[1, 2]]]
    for x in seen[:3]:
        torch.testing.assert_close(x, seen[0])
    torch.testing.assert_close(seen[3][..., 4:], torch.full((1, 1, 4, 4, 4), 2.24))
    history.bound = 0.0
    torch.testing.assert_close(passes(history, moved), 2 * moved)
    assert history.is_whole


def test_residuals_of_the_patches_add_up_to_that_of_the_whole():
    grid = PatchGrid((5, 9, 8), 4, 2)
    history, point, value = PatchHistory(grid), *torch.randn(2, 1, 1, *grid.shape).unbind()
    history.moved(point, value)
    told = FixedPoint("", True, maps={"residual": history.residuals}, edges=grid.edges).spread("residual")
    whole = torch.linalg.vector_norm(value - point) / torch.linalg.vector_norm(value)
    assert float((told**2).mean()) ** 0.5 == pytest.approx(float(whole), rel=1e-5)


def test_a_map_of_a_region_is_the_region_of_the_map():
    grid = PatchGrid((5, 9, 8), 4, 2)
    history, box = PatchHistory(grid), (slice(1, 4), slice(2, 9), slice(5, 8))
    history.moved(*torch.randn(2, 1, 1, *grid.shape).unbind())
    told = FixedPoint("", True, maps={"residual": history.residuals}, edges=grid.edges)
    assert (told.inside(box).spread("residual") == told.spread("residual")[box]).all()
    assert told.spread("residual", 4).shape == (2, 3, 2)
