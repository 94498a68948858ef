"""Borders of patches cannot be seen: the image jumps there no more than one that was made in a single piece."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from napari_unroll.events import Finished
from napari_unroll.io.registry import read
from napari_unroll.methods.registry import METHODS
from napari_unroll.patches.grid import PatchGrid
from napari_unroll.pipeline.measured import SLICE, disc, of_slice
from napari_unroll.pipeline.plan import Choices, resolve
from napari_unroll.pipeline.run import run

EDGE = 64
SHIPPED = ("unet", "drunet", "pnp-pgd", "dpir", "modl", "mol-lr", "luser-dw", "unrolled-pgd")
QUICK = ("unet", "drunet")
WALNUT, EDGE_XRAY = "walnut_cwi_10view", 24
of_every_method = pytest.mark.parametrize(
    "method", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in SHIPPED]
)


@cache
def measured_slice(path):
    return of_slice(path, lambda shape: disc(5.0, shape)).kept


@cache
def measured_cone(path):
    """Ten views of a walnut, on pixels of 16: a volume of 63³ voxels, with structure and streaks all over."""
    return read(path, bin=16)


def in_patches_and_whole(scan, method, edge):
    """The volume in patches, their grid, and the volume in a single piece."""
    assert METHODS[method].patchwise
    whole, _ = reconstructed(scan, method, 512)
    return *reconstructed(scan, method, edge), whole


def reconstructed(scan, method, edge):
    plan = resolve(Choices(device="cpu", method=method, patch_size=edge), scan)
    *_, last = run(plan, scan, None)
    assert isinstance(last, Finished)
    return last.result, PatchGrid(plan.grid.shape, plan.patch_size, plan.overlap)


def jumps(image, grid):
    """Mean squared jumps across the borders of patches over those three to five voxels beside them, along every cut axis."""
    found = []
    for axis in range(3):
        borders = np.array(grid.edges[axis][1:-1]) - 1
        if len(borders):
            lines = np.square(np.abs(np.diff(image, axis=axis))).mean(axis=tuple({0, 1, 2} - {axis}))
            beside = [line + side * away for line in borders for side in (-1, 1) for away in (3, 4, 5)]
            found.append(float(lines[borders].mean() / lines[beside].mean()))
    return np.array(found)


def test_a_step_between_patches_is_seen():
    grid = PatchGrid((1, 96, 96), (1, 40, 40), 8)
    image = np.random.default_rng(0).normal(size=grid.shape)
    assert jumps(image, grid).max() < 1.5
    for y, row in enumerate(grid.edges[1][1:-1]):
        image[:, row:] += 2.0 * (-1) ** y
    assert jumps(image, grid)[0] > 2


@of_every_method
def test_patches_leave_no_seams_on_a_measured_slice(method, shared_data):
    """Errors, so that edges of the object count little; in one piece there are no borders, so its jumps there are chance."""
    path = shared_data / SLICE
    if not path.is_file():
        pytest.skip(f"no {SLICE} here")
    scan = measured_slice(path)
    cut, grid, whole = in_patches_and_whole(scan, method, EDGE)
    assert len(grid) >= 16
    truth = np.abs(scan.truth)
    at_borders, by_chance = (jumps(np.abs(image) - truth, grid) for image in (cut, whole))
    assert (at_borders < 1.1 * by_chance).all()


@of_every_method
def test_patches_leave_no_seams_on_measured_views(method, shared_data):
    """No truth here, so jumps of the volume itself, beside those of the one that was made in a single piece."""
    path = shared_data / WALNUT
    if not path.is_dir():
        pytest.skip(f"no {WALNUT} here")
    scan = measured_cone(path)
    cut, grid, whole = in_patches_and_whole(scan, method, EDGE_XRAY)
    assert min(len(edges) for edges in grid.edges) > 4
    assert (jumps(cut, grid) < 1.05 * jumps(whole, grid)).all()
