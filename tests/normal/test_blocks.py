"""Ñ block by block equals Ñ at once."""

from __future__ import annotations

import pytest
import torch

from napari_unroll.normal import blocks, smooth
from napari_unroll.normal.impulse import assemble
from napari_unroll.normal.patch import PatchNormal


def summed(shape, lags, weighted=True):
    """A sum of ten symmetric kernels with random weights."""
    g = torch.Generator().manual_seed(0)
    kernels = torch.randn(10, *(2 * s for s in lags), generator=g)
    for axis, s in zip((1, 2, 3), lags, strict=True):
        kernels = kernels.index_fill(axis, torch.tensor([s]), 0)
    return smooth.assemble(kernels, shape, torch.rand(shape, generator=g) + 0.5 if weighted else None)


def at_once(f, x):
    everything = tuple(slice(0, n) for n in f.shape)
    weights = f.weights("left", everything)[None]
    return PatchNormal(f.convolution(f.shape), weights, weights, f.pairs).apply(x)


@pytest.mark.parametrize(("shape", "lags"), [((20, 23, 31), (3, 4, 3)), ((6, 30, 17), (4, 3, 2))])
@pytest.mark.parametrize("weighted", [True, False])
def test_blocks_change_nothing(shape, lags, weighted):
    f = summed(shape, lags, weighted)
    assert blocks.worthwhile(f)
    x = torch.randn(2, 1, *shape, generator=torch.Generator().manual_seed(1))
    whole = at_once(f, x)
    assert torch.allclose(f.apply(x), whole, atol=1e-5 * float(whole.abs().max()))


def test_one_kernel_goes_by_blocks_on_large_volumes(monkeypatch):
    kernel = torch.randn(1, 6, 8, 6, generator=torch.Generator().manual_seed(2))
    for axis, s in zip((1, 2, 3), (3, 4, 3), strict=True):
        kernel = kernel.index_fill(axis, torch.tensor([s]), 0)
    f = assemble(kernel, torch.rand(20, 23, 31), (20, 23, 31), (False,) * 3)
    x = torch.randn(1, 1, 20, 23, 31)
    whole = f.apply(x)
    monkeypatch.setattr(blocks, "LARGE", 0)
    assert blocks.worthwhile(f)
    assert torch.allclose(f.apply(x), whole, atol=1e-5 * float(whole.abs().max()))


def test_blocks_cover_the_axis_once():
    size, intervals = blocks.axis_blocks(100, 16)
    given = [i for _, (a, b) in intervals for i in range(a, b)]
    assert given == list(range(100))
    assert all(b - a == size for (a, b), _ in intervals)


def test_kernels_of_all_lags_are_applied_at_once():
    assert not blocks.worthwhile(summed((8, 8, 8), (8, 8, 8)))


def test_the_polynomial_weights_are_made_where_they_are_needed():
    f = summed((6, 7, 8), (3, 3, 3))
    assert f.left.shape == (1, 6, 7, 8)
    box = (slice(1, 4), slice(2, 7), slice(0, 5))
    inside = f.weights("left", box)
    for k in range(4):
        assert torch.equal(inside[k], f.weight("left", k)[box])
