"""Averages by lag, positive kernels and weights."""

from __future__ import annotations

import pytest
import torch

from napari_unroll.normal import impulse
from napari_unroll.normal.factors import NormalFactors
from tests.normal.toys import dense, gap

SHAPE = (4, 5, 6)
LINEAR, CIRCULAR = (False,) * 3, (True,) * 3


@pytest.mark.parametrize("circular", [LINEAR, CIRCULAR, (True, False, True)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_one_convolution_is_recovered_from_its_columns(circular, dtype):
    g = torch.Generator().manual_seed(0)
    sizes = [n if c else 2 * n for n, c in zip(SHAPE, circular, strict=True)]
    h = torch.randn(1, *sizes, dtype=dtype, generator=g)
    h = h + torch.roll(torch.flip(h, (1, 2, 3)), (1, 1, 1), (1, 2, 3)).conj()
    f = NormalFactors(kernel=h, left=None, right=None, shape=SHAPE, circular=circular)
    average = impulse.LagAverage(SHAPE, SHAPE, circular, dtype, torch.device("cpu"))
    for j in [(0, 0, 0), (3, 4, 5), (0, 4, 0), (3, 0, 0), (0, 0, 5), (2, 1, 3)]:
        e = torch.zeros(1, 1, *SHAPE, dtype=dtype)
        e[(0, 0, *j)] = 1
        average.add(f.apply(e)[0, 0], j)
    again = NormalFactors(kernel=average.kernel(), left=None, right=None, shape=SHAPE, circular=circular)
    assert gap(dense(f.apply, SHAPE, dtype), dense(again.apply, SHAPE, dtype)) < 1e-5


@pytest.mark.parametrize("circular", [LINEAR, CIRCULAR])
def test_nonnegative_kernels_are_semi_definite_and_near(circular):
    sizes = [n if c else 2 * n for n, c in zip(SHAPE, circular, strict=True)]
    h = 0.05 * torch.randn(1, *sizes, generator=torch.Generator().manual_seed(0))
    h[0, 0, 0, 0] = 1
    h = h + torch.roll(torch.flip(h, (1, 2, 3)), (1, 1, 1), (1, 2, 3))
    psd = impulse.nonnegative(h, circular)
    f, g = (NormalFactors(kernel=k, left=None, right=None, shape=SHAPE, circular=circular) for k in (h, psd))
    matrix = dense(g.apply, SHAPE)
    assert float(torch.linalg.eigvalsh(matrix)[0]) > -1e-5
    assert gap(dense(f.apply, SHAPE), matrix) < 0.1


def test_a_positive_kernel_is_left_alone():
    h = torch.zeros(1, 8, 10, 12)
    h[0, 0, 0, 0], h[0, 1, 0, 0], h[0, -1, 0, 0] = 1.0, 0.2, 0.2
    assert torch.allclose(impulse.nonnegative(h, LINEAR), h, atol=1e-6)


def test_weight_from_constant_inverts_a_known_weight():
    h = torch.zeros(1, 8, 10, 12)
    h[0, 0, 0, 0] = 2.0
    d = torch.rand(SHAPE) + 0.5
    unweighted = NormalFactors(kernel=h, left=None, right=None, shape=SHAPE)
    response = impulse.assemble(h, d, SHAPE, LINEAR, "dc").apply(torch.ones(1, 1, *SHAPE))
    assert torch.allclose(impulse.weight_from_constant(response, unweighted), d)


def test_coloured_probes_find_a_smooth_gain():
    shape = (16, 16, 16)
    h = torch.zeros(1, 32, 32, 32)
    h[0, 0, 0, 0] = 1.0
    gain = torch.linspace(0.8, 1.2, 16)[:, None, None].expand(shape)
    flat = impulse.assemble(h, torch.ones(shape), shape, LINEAR)
    probes = [torch.randn(1, 1, *shape, generator=torch.Generator().manual_seed(i)) for i in range(4)]
    found = impulse.weight_gain(flat, [(w, gain * w) for w in probes], 2.0)
    assert gap(gain, found) < 0.03


def test_window_stays_inside():
    assert impulse.window((4, 5, 6), (2, 9, 3), (0, 2, 5)) == (slice(0, 2), slice(0, 5), slice(3, 6))
