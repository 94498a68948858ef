"""The error of left-out measurements: zero for the truth of noiseless data, and that of the noise else."""

from dataclasses import replace

import pytest
import torch

from napari_unroll.methods.left_out import split
from tests.methods import tiny
from tests.scan.test_left_out import SPLITTABLE


def noiseless(make):
    """The scan with the exact measurements of its truth, its problem, and the truth (1, 1, z, y, x)."""
    scan = make()
    given = tiny.problem(scan)
    x = torch.as_tensor(scan.truth).to(given.physics.dtype)[None, None]
    y = given.physics.A(x)
    exact = y[0] if scan.modality == "mri" else y[0, 0]
    scan = replace(scan, measurements=exact.numpy())
    return tiny.problem(scan), x


@pytest.mark.parametrize("name", SPLITTABLE)
def test_the_truth_foretells_noiseless_measurements(name):
    given, x = noiseless(SPLITTABLE[name])
    kept, left = split(given)
    assert left.error(x) < 1e-9
    assert kept.residual(x) < 1e-4
    assert left.error(torch.zeros_like(x)) == pytest.approx(1.0)
    assert left.error(0.9 * x) == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("name", SPLITTABLE)
def test_energies_of_views_or_coils_make_up_the_error(name):
    given, x = noiseless(SPLITTABLE[name])
    _, left = split(given)
    wrong, size = left.energies(0.5 * x)
    n = len(left.y[0]) if left.y.is_complex() else left.y.shape[2]
    assert wrong.shape == size.shape == (n,)
    assert float(wrong.sum() / size.sum()) == pytest.approx(left.error(0.5 * x))


def test_both_parts_have_the_coil_maps_of_the_whole():
    given = tiny.problem(replace(tiny.slice_mri(), csm=None))
    kept, left = split(given)
    torch.testing.assert_close(kept.physics.csm, given.physics.csm)
    torch.testing.assert_close(left.physics.csm, given.physics.csm)
