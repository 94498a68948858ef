"""Ñ = Σ L_kᴴ C_k R_k against matrices written out lag by lag."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_unroll.errors import FileFormatError, ParameterError
from napari_unroll.normal.factors import NormalFactors
from napari_unroll.normal.storage import load, save
from tests.normal.toys import dense, gap

SHAPE = (3, 4, 5)
BOXES = [
    (slice(0, 2), slice(1, 4), slice(0, 4)),
    (slice(1, 3), slice(0, 3), slice(1, 5)),
]


def random_factors(circular, dtype=torch.float64, symmetric=True, k=2, lags=None, seed=0):
    g = torch.Generator().manual_seed(seed)
    sizes = lags or [n if c else 2 * n for n, c in zip(SHAPE, circular, strict=True)]
    kernel = torch.randn(k, *sizes, dtype=dtype, generator=g)
    left = torch.randn(k, *SHAPE, dtype=dtype, generator=g)
    right = left if symmetric else torch.randn(k, *SHAPE, dtype=dtype, generator=g)
    return NormalFactors(kernel=kernel, left=left, right=right, shape=SHAPE, circular=circular)


def by_lags(f):
    """The matrix, entry by entry."""
    voxels = list(np.ndindex(*SHAPE))
    out = torch.zeros(len(voxels), len(voxels), dtype=f.kernel.dtype)
    for (a, i), (b, j) in itertools.product(enumerate(voxels), repeat=2):
        lags = [p - q for p, q in zip(i, j, strict=True)]
        reach = [n if c else max(1, m // 2) for n, m, c in zip(SHAPE, f.kernel.shape[1:], f.circular, strict=True)]
        if all(abs(ell) < s for ell, s in zip(lags, reach, strict=True)):
            at = tuple(ell % m for ell, m in zip(lags, f.kernel.shape[1:], strict=True))
            for k in range(f.kernel.shape[0]):
                out[a, b] += f.left[(k, *i)].conj() * f.kernel[(k, *at)] * f.right[(k, *j)]
    return out


@pytest.mark.parametrize("circular", list(itertools.product((False, True), repeat=3)))
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_apply_is_the_sum_over_lags(circular, dtype):
    f = random_factors(circular, dtype, symmetric=False)
    assert gap(by_lags(f), dense(f.apply, SHAPE, dtype)) < 1e-12


@pytest.mark.parametrize("lags", [(1, 8, 10), (6, 1, 4), (2, 4, 6), (1, 1, 1)])
def test_short_linear_kernels(lags):
    f = random_factors((False,) * 3, lags=lags)
    assert gap(by_lags(f), dense(f.apply, SHAPE, torch.float64)) < 1e-12


@pytest.mark.parametrize("circular", [(False,) * 3, (True,) * 3, (True, False, True)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("size", [(1, 1, 1), (2, 3, 4), (3, 4, 5), (3, 1, 5)])
def test_patches_are_blocks_of_the_whole(circular, dtype, size):
    f = random_factors(circular, dtype, symmetric=False)
    whole = by_lags(f).reshape(*SHAPE, *SHAPE)
    starts = itertools.product(*[range(n - p + 1) for n, p in zip(SHAPE, size, strict=True)])
    for start in starts:
        box = tuple(slice(s, s + p) for s, p in zip(start, size, strict=True))
        block = whole[box + box].reshape(int(np.prod(size)), -1)
        assert gap(block, dense(f.restrict(box).apply, size, dtype)) < 1e-12


def test_batched_patches_equal_single_ones():
    f = random_factors((False, True, False))
    u = torch.randn(2, 1, 2, 3, 4, dtype=torch.float64)
    together = f.restrict(BOXES).apply(u)
    for i, box in enumerate(BOXES):
        assert torch.allclose(together[i : i + 1], f.restrict(box).apply(u[i : i + 1]))


def test_patches_differentiate():
    f = random_factors((False,) * 3)
    u = torch.randn(2, 1, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(f.restrict(BOXES).apply, (u,))


def test_complex_patches_differentiate():
    f = random_factors((True,) * 3, torch.complex128)
    u = torch.randn(1, 1, 2, 3, 4, dtype=torch.complex128, requires_grad=True)
    assert torch.autograd.gradcheck(f.restrict(BOXES[0]).apply, (u,))


def test_one_spectrum_per_patch_size():
    f = random_factors((False,) * 3)
    assert f.restrict(BOXES[0]).convolution is f.restrict(BOXES).convolution


def test_half_precision_data_go_through_the_factors_precision():
    f = random_factors((False,) * 3, torch.float32)
    u = torch.randn(1, 1, 2, 3, 4)
    low = f.restrict(BOXES[0]).apply(u.bfloat16())
    assert low.dtype == torch.bfloat16
    assert gap(f.restrict(BOXES[0]).apply(u), low.float()) < 0.02


def test_complex_data_through_real_factors():
    f = random_factors((False,) * 3)
    x = torch.randn(1, 1, *SHAPE, dtype=torch.complex128)
    assert torch.allclose(f.apply(x), torch.complex(f.apply(x.real), f.apply(x.imag)))


def smoothing_factors(symmetric=True, dtype=torch.float64, **info):
    """λ > 0 by lag zero, weights that rise along the volume."""
    h = torch.zeros(1, 6, 8, 10, dtype=dtype)
    h[0, 0, 0, 0], h[0, 1, 0, 0], h[0, -1, 0, 0], h[0, 0, 1, 0], h[0, 0, -1, 0] = 6, 2, 2, 1, 1
    d = torch.linspace(0.5, 1.5, 60, dtype=h.real.dtype).reshape(1, *SHAPE)
    d = torch.polar(d, 3 * d) if dtype.is_complex else d
    return NormalFactors(kernel=h, left=d, right=d if symmetric else d.clone(), shape=SHAPE, info=info)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("symmetric", [True, False])
def test_norm_is_the_top_eigenvalue(symmetric, dtype):
    f = smoothing_factors(symmetric, dtype)
    assert f.norm_squared == pytest.approx(
        float(torch.linalg.eigvalsh(by_lags(f))[-1]), rel=5e-5 if symmetric else 5e-3
    )


def test_norm_of_zero_is_zero():
    f = smoothing_factors()
    assert replace(f, kernel=0 * f.kernel, _cache={}).norm_squared == 0
    assert replace(f, left=0 * f.left, _cache={}).norm_squared == 0


def test_norm_of_symmetric_factors_takes_few_applications(monkeypatch):
    f, calls, apply = smoothing_factors(), [], NormalFactors.apply
    monkeypatch.setattr(NormalFactors, "apply", lambda self, x: calls.append(1) or apply(self, x))
    assert f.norm_squared > 0
    assert len(calls) <= 25  # 60 by powers


@pytest.mark.parametrize("bound", [0.5, 2.0])
def test_a_bound_beyond_all_row_sums_is_the_norm_for_one_application(monkeypatch, bound):
    """‖Ñ‖ is looked for only where it may be more than the bound of ‖N‖ that the fit left."""
    calls, apply = [], NormalFactors.apply
    monkeypatch.setattr(NormalFactors, "apply", lambda self, x: calls.append(1) or apply(self, x))
    matrix = by_lags(smoothing_factors())
    rows, top = float(matrix.abs().sum(1).max()), float(torch.linalg.eigvalsh(matrix)[-1])
    found = smoothing_factors(norm_bound=bound * rows).norm_squared
    assert found == pytest.approx(max(bound * rows, top), rel=5e-5)
    assert (len(calls) == 1) == (bound > 1)


def test_crop_is_exact_on_patches_up_to_its_size():
    f = random_factors((False, True, False))
    small = f.crop((2, 2, 3))
    box = (slice(1, 3), slice(0, 2), slice(2, 5))
    assert small.nbytes < f.nbytes
    assert torch.allclose(dense(f.restrict(box).apply, (2, 2, 3), torch.float64),
                          dense(small.restrict(box).apply, (2, 2, 3), torch.float64))  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
@pytest.mark.parametrize("symmetric", [True, False])
def test_save_and_load(tmp_path, dtype, symmetric):
    f = random_factors((True, False, True), dtype, symmetric)
    f.info.update(error_image=0.06, operator_calls=33.0)
    save(f, tmp_path / "n.safetensors")
    g = load(tmp_path / "n.safetensors")
    x = torch.randn(1, 1, *SHAPE, dtype=dtype)
    assert torch.equal(f.apply(x), g.apply(x))
    assert (g.symmetric, g.form, g.info, g.circular) == (f.symmetric, f.form, f.info, f.circular)


@pytest.mark.parametrize("content", [b"", b"not safetensors at all", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "])
def test_a_damaged_file_gives_a_sentence(tmp_path, content):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match="fit"):
        load(path)
    with pytest.raises(FileFormatError, match="none"):
        load(tmp_path / "absent.safetensors")


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(ParameterError, match="lags"):
        NormalFactors(kernel=torch.ones(1, 7, 8, 10), left=None, right=None, shape=SHAPE)
    with pytest.raises(ParameterError, match="weights"):
        NormalFactors(kernel=torch.ones(1, 6, 8, 10), left=torch.ones(1, 2, 2, 2), right=None, shape=SHAPE)
    with pytest.raises(ParameterError, match="shape"):
        random_factors((False,) * 3).restrict([BOXES[0], (slice(0, 1),) * 3])


def test_maps_for_viewers():
    f = random_factors((False,) * 3, torch.float32)
    assert f.d_map.shape == SHAPE
    assert f.frequency_map.shape == f.kernel_map.shape == (6, 8, 10)
    assert f.kernel_map[3, 4, 5] == pytest.approx(float(f.kernel.mean(0)[0, 0, 0]))


def test_patches_of_a_device_copy():
    f = random_factors((False,) * 3)
    g = f.to("cpu")
    u = torch.randn(1, 1, 2, 3, 4, dtype=torch.float64)
    assert g.symmetric
    assert torch.equal(f.restrict(BOXES[0]).apply(u), g.restrict(BOXES[0]).apply(u))


@pytest.mark.parametrize("polynomial", [False, True])
@pytest.mark.parametrize("box", BOXES)
def test_what_is_cut_to_a_region_is_its_block_of_the_whole(polynomial, box):
    f = random_factors((False,) * 3, symmetric=polynomial)
    if polynomial:
        pairs = tuple((k, k, 0) for k in range(4))
        f = NormalFactors(
            kernel=f.kernel[:1], left=(w := f.left[:1]), right=w, shape=SHAPE, pairs=pairs, polynomial=True
        )
    cut = f.restricted(box)
    assert cut.shape == tuple(b.stop - b.start for b in box)
    assert (
        gap(dense(f.restrict(box).apply, cut.shape, torch.float64), dense(cut.apply, cut.shape, torch.float64)) < 1e-12
    )


def test_circular_operators_are_not_cut():
    with pytest.raises(ParameterError, match="circular"):
        random_factors((True, False, False)).restricted(BOXES[0])
