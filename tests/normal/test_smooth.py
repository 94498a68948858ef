"""Kernels that vary with position: recovered exactly where the operator is of that kind, better on real scans."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_unroll.errors import UnrollError
from napari_unroll.normal import smooth
from napari_unroll.normal.factors import NormalFactors
from napari_unroll.normal.fit import FitOptions, fit_now
from napari_unroll.normal.impulse import window
from napari_unroll.normal.precondition import regularised_inverse
from napari_unroll.normal.probes import CountedNormal, HeldOut
from napari_unroll.normal.storage import load, save
from tests.normal.toys import coils, cone, dense, gap

SHAPE = (3, 4, 5)


def random_smooth_operator(seed=0):
    g = torch.Generator().manual_seed(seed)
    kernels = torch.randn(smooth.N_BASIS, 6, 8, 10, generator=g)
    for axis, s in zip((1, 2, 3), SHAPE, strict=True):
        kernels.select(axis, s).zero_()
    reversed_kernels = torch.roll(torch.flip(kernels, (1, 2, 3)), (1, 1, 1), (1, 2, 3))
    return smooth.assemble(kernels + reversed_kernels, SHAPE)


def columns_of(f, support=SHAPE):
    lags = smooth.SmoothLags(SHAPE, support, torch.device("cpu"))
    for j in np.ndindex(*SHAPE):
        e = torch.zeros(1, 1, *SHAPE)
        e[(0, 0, *j)] = 1
        lags.add(f.apply(e)[0, 0][window(SHAPE, support, j)], j)
    return lags


def test_an_operator_of_this_form_is_recovered():
    f = random_smooth_operator()
    kernels = columns_of(f).kernels(ridge=1e-6)
    again = smooth.assemble(kernels, SHAPE)
    assert gap(dense(f.apply, SHAPE), dense(again.apply, SHAPE)) < 2e-2


def test_support_keeps_the_near_lags():
    f = random_smooth_operator()
    box = (slice(0, 3), slice(0, 3), slice(2, 5))
    near = smooth.assemble(columns_of(f, (3, 3, 3)).kernels(ridge=1e-6), SHAPE)
    assert near.kernel.shape[1:] == (6, 6, 6)
    assert gap(dense(f.restrict(box).apply, (3, 3, 3)), dense(near.restrict(box).apply, (3, 3, 3))) < 2e-2


def test_pairs_share_transforms_and_equal_separate_terms():
    f = random_smooth_operator()
    d = torch.rand(SHAPE) + 0.5
    root = f.left * d.sqrt()
    weighted = replace(f, left=root, right=root, _cache={})
    separate = NormalFactors(
        kernel=torch.stack([f.kernel[k] for _, _, k in f.terms]),
        left=torch.stack([weighted.weight("left", a) for a, _, _ in f.terms]),
        right=torch.stack([weighted.weight("right", b) for _, b, _ in f.terms]),
        shape=SHAPE,
    )
    assert gap(dense(separate.apply, SHAPE), dense(weighted.apply, SHAPE)) < 1e-5
    box = (slice(0, 2), slice(1, 4), slice(0, 5))
    u = torch.randn(1, 1, 2, 3, 5)
    assert torch.allclose(separate.restrict([box]).apply(u), weighted.restrict([box]).apply(u), atol=1e-4)


def test_symmetric(tmp_path):
    f = random_smooth_operator()
    matrix = dense(f.apply, SHAPE)
    assert gap(matrix, matrix.T) < 1e-5
    save(f, tmp_path / "s.safetensors")
    assert torch.equal(dense(load(tmp_path / "s.safetensors").apply, SHAPE), matrix)


@pytest.mark.parametrize(("arc", "factor"), [(2 * np.pi, 0.9), (1.15 * np.pi, 0.6)])
def test_it_lowers_the_error_of_a_cone_beam(arc, factor):
    physics = cone(16, 24, arc=arc)
    held_out = HeldOut.make(CountedNormal(physics), 2)
    one = held_out.errors(fit_now(physics, FitOptions(form="dcd", n_test=0)))
    many = held_out.errors(fit_now(physics, FitOptions(form="sum", n_test=0)))
    assert many["error_image"] < factor * one["error_image"]


def test_short_scans_choose_it_and_closed_orbits_do_not():
    assert fit_now(cone(8, 6, arc=np.pi)).form == "sum"
    assert fit_now(cone(8, 6)).form == "dcd"


def test_complex_volumes_are_refused():
    with pytest.raises(UnrollError, match="real volumes"):
        fit_now(coils(), FitOptions(form="sum", n_test=0))


def test_its_inverse_is_positive_definite():
    physics = cone(8, 12, arc=np.pi)
    m = regularised_inverse(fit_now(physics, FitOptions(n_test=0)), 0.05)
    matrix = dense(m.apply, (8, 8, 8))
    assert m.pairs is None
    assert float(torch.linalg.eigvalsh((matrix + matrix.T) / 2)[0]) > 0
