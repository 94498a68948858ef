import dataclasses

import numpy as np
import pytest
import torch

from napari_unroll.methods.classical.cg_sense import CG_SENSE
from napari_unroll.methods.classical.cgls import CGLS
from napari_unroll.methods.classical.tikhonov import TIKHONOV
from napari_unroll.physics.build import build_physics
from tests.methods import tiny

SCANS = [tiny.odd_multicoil(), tiny.slice_mri(), tiny.radial()]
IDS = ["multi-coil", "one slice", "radial"]


def uneven(scan):
    """The same measurements of maps that fall off towards one side: Σ|S|² is not one."""
    fall = np.linspace(0.2, 2, scan.grid.shape[2], dtype=np.float32)
    return dataclasses.replace(scan, csm=scan.csm * fall)


@pytest.mark.parametrize("scan", SCANS, ids=IDS)
def test_without_weight_and_correction_it_is_cgls(scan):
    _, x = tiny.drain(CG_SENSE, tiny.problem(scan), strength=0, intensity_correction=False, n_iterations=6)
    _, expected = tiny.drain(CGLS, tiny.problem(scan), n_iterations=6)
    torch.testing.assert_close(x, expected)


@pytest.mark.parametrize("scan", SCANS, ids=IDS)
def test_with_a_weight_it_is_tikhonov_whatever_corrects_the_steps(scan):
    both = {"strength": 0.1, "tolerance": 1e-6, "n_iterations": 300}
    _, x = tiny.drain(CG_SENSE, tiny.problem(uneven(scan)), intensity_correction=True, **both)
    _, expected = tiny.drain(TIKHONOV, tiny.problem(uneven(scan)), penalty="identity", **both)
    assert torch.linalg.vector_norm(x - expected) < 1e-4 * torch.linalg.vector_norm(expected)


def test_with_every_sample_one_corrected_step_is_the_image():
    """AᴴA is then Σ|S|², whose inverse is the correction."""
    scan = uneven(tiny.odd_multicoil())
    full = dataclasses.replace(scan.geometry, mask=np.ones(scan.grid.shape, bool))
    physics = build_physics(dataclasses.replace(scan, geometry=full), "cpu")
    data = physics.A(torch.from_numpy(scan.truth)[None, None])[0].numpy()
    complete = dataclasses.replace(scan, geometry=full, measurements=data)
    errors = []
    for corrected in (True, False):
        given = tiny.problem(complete)
        _, x = tiny.drain(CG_SENSE, given, strength=0, n_iterations=1, intensity_correction=corrected)
        errors.append(np.linalg.norm(x.numpy() - scan.truth) / np.linalg.norm(scan.truth))
    assert errors[0] < 1e-5
    assert errors[1] > 0.1


def test_nothing_is_invented_where_no_coil_sees():
    scan = tiny.odd_multicoil()
    blind = scan.csm.copy()
    blind[..., :5] = 0
    given = tiny.problem(dataclasses.replace(scan, csm=blind))
    _, x = tiny.drain(CG_SENSE, given, n_iterations=6)
    assert torch.isfinite(x).all()
    assert x[..., :5].abs().max() == 0
