"""Blending is a partition of unity: what was cut comes back."""

from __future__ import annotations

import pytest
import torch

from napari_unroll.patches.blend import Blender, window
from napari_unroll.patches.grid import PatchGrid


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
@pytest.mark.parametrize(("size", "overlap"), [(4, 0), (4, 2), (5, 3), ((3, 9, 20), 1), (1, 0)])
def test_cut_and_blend_is_the_identity(dtype, size, overlap):
    x = torch.randn(7, 9, 11, dtype=dtype)
    blender = Blender((7, 9, 11), dtype, overlap)
    for box in PatchGrid((7, 9, 11), size, overlap).boxes:
        blender.add(box, x[box][None, None])
    assert bool(blender.covered.all())
    assert torch.allclose(blender.values(), x, atol=1e-6)


def test_seams_are_smooth():
    blender = Blender((1, 1, 12), torch.float32, 4)
    for value, box in enumerate(PatchGrid((1, 1, 12), (1, 1, 8), 4).boxes):
        blender.add(box, torch.full((1, 1, 8), float(value)))
    steps = blender.values().flatten().diff()
    assert float(steps.min()) >= 0
    assert float(steps.max()) < 0.3


def test_partial_volumes_are_zero_where_nothing_arrived():
    blender = Blender((4, 4, 4))
    box = (slice(0, 2),) * 3
    blender.add(box, torch.ones(2, 2, 2))
    assert float(blender.values().sum()) == 8
    assert torch.equal(blender.values(box), torch.ones(2, 2, 2))
    assert int(blender.covered.sum()) == 8


def test_a_local_filter_on_patches_with_its_reach_as_halo_is_that_of_the_whole_volume():
    torch.manual_seed(0)
    blur = torch.nn.Conv3d(1, 1, 5, padding=2, bias=False).requires_grad_(False)
    x = torch.randn(1, 1, 11, 12, 17)
    blender = Blender((11, 12, 17), torch.float32, 4, halo=2)
    for box in PatchGrid((11, 12, 17), 7, 4).boxes:
        blender.add(box, blur(x[(..., *box)]))
    torch.testing.assert_close(blender.values(), blur(x)[0, 0], atol=1e-5, rtol=1e-5)


def test_window_is_positive_and_one_inside():
    w = window((8, 1, 6), (2, 3, 0))
    assert w.shape == (8, 1, 6)
    assert float(w.min()) > 0
    assert float(w.max()) == 1.0
