"""Symmetries of the normal operator, and samples turned by them."""

import numpy as np
import pytest
import torch

from napari_unroll.normal.fit import FitOptions, fit_now
from napari_unroll.physics.build import build_physics
from napari_unroll.physics.samples import cone_beam_setup
from napari_unroll.physics.xray import XRay
from napari_unroll.training.sampler import PatchSampler
from napari_unroll.training.samples import SampleStore
from napari_unroll.training.scanners import cone_beam_scanner, generated_scan, multi_coil_scanner
from napari_unroll.training.symmetries import CUBE, IDENTITY, Symmetry, find_symmetries

PARTS = ("truth", "start", "residual_truth", "residual_start")
MIRROR_Z = Symmetry(flips=(True, False, False))
MIRROR_X = Symmetry(flips=(False, False, True))
QUARTER = Symmetry((0, 2, 1), (False, True, False))


@pytest.mark.parametrize(("n_views", "count"), [(5, 4), (6, 8), (8, 16)])
def test_a_circular_orbit_is_as_symmetric_as_its_views(n_views, count):
    """Mirrors in z and across the axis always; half turns with even, quarter turns with a multiple of four views."""
    found = find_symmetries(XRay(*cone_beam_setup(12, n_views)))
    assert len(found) == count
    assert {IDENTITY, MIRROR_Z, MIRROR_X} <= set(found)
    assert (QUARTER in found) == (n_views % 4 == 0)


def test_coils_and_a_random_mask_have_no_symmetry():
    scan = generated_scan(multi_coil_scanner((6, 12, 12), 2, n_coils=3), 0)
    assert find_symmetries(build_physics(scan, "cpu")) == (IDENTITY,)


def test_symmetries_compose_as_they_act():
    volume = np.arange(24).reshape(2, 3, 4)
    for a, b in ((CUBE[7], CUBE[20]), (CUBE[33], CUBE[12])):
        np.testing.assert_array_equal(a.after(b).apply(volume), a.apply(b.apply(volume)))


def test_the_residual_of_the_turned_truth_is_the_turned_residual():
    scan = generated_scan(cone_beam_scanner(12, 8), 0)
    physics = build_physics(scan, "cpu")
    rng = np.random.default_rng(0)
    truth, start = (rng.standard_normal((12, 12, 12)).astype(np.float32) for _ in range(2))

    def difference(x, z):
        """Aᴴ(A x − A z): the residual image of z for noise-free data of x."""
        return physics.A_adjoint(physics.A(torch.from_numpy(np.ascontiguousarray(x - z))[None, None]))[0, 0].numpy()

    for turn in find_symmetries(physics):
        turned = difference(turn.apply(truth), turn.apply(start))
        np.testing.assert_allclose(turned, turn.apply(difference(truth, start)), atol=1e-3 * np.abs(turned).max())


def test_every_part_of_a_sample_is_turned_alike():
    rng = np.random.default_rng(0)
    truth = rng.standard_normal((4, 4, 4)) + 1j * rng.standard_normal((4, 4, 4))
    parts = {name: (k + 1) * truth.astype(np.complex64) for k, name in enumerate(PARTS)}
    sampler = PatchSampler([(parts, 0)], (4, 4, 4), 0, [CUBE])
    seen = [sampler.draw(1) for _ in range(8)]
    for batch in seen:
        drawn = {"truth": batch.truth, "start": batch.start, "residual_truth": batch.residuals[0]}
        for name, values in drawn.items():
            torch.testing.assert_close(values, (PARTS.index(name) + 1) * batch.truth)
        turned = batch.truth[0, 0].numpy()
        fits = [abs(np.vdot(s.apply(truth), turned)) / np.linalg.norm(truth) ** 2 for s in CUBE]
        assert max(fits) == pytest.approx(1, abs=1e-4)
    assert not torch.allclose(seen[0].truth, seen[1].truth)


def test_the_store_keeps_the_symmetries_of_a_protocol(tmp_path):
    store = SampleStore(tmp_path)
    physics = XRay(*cone_beam_setup(8, 6))
    store.add_scanner(fit_now(physics, FitOptions(n_test=0, n_probes=2)), 0, (IDENTITY, QUARTER))
    assert SampleStore(tmp_path).symmetries() == [(IDENTITY, QUARTER)]
