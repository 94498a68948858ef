import numpy as np
import pytest
import torch

from napari_unroll.events import IterationDone, Outcome, PatchDone
from napari_unroll.methods.problem import Method, MethodParams
from napari_unroll.methods.registry import METHODS
from napari_unroll.physics.build import build_physics
from napari_unroll.pipeline.metrics import psnr
from napari_unroll.pipeline.plan import Choices, resolve
from napari_unroll.pipeline.roi import cropped, restrict_ct, restrict_mri, seeing_rows
from napari_unroll.pipeline.run import run
from tests.methods import tiny

ROI = (3, 7, 2, 18, 4, 20)
BOX = (slice(3, 7), slice(2, 18), slice(4, 20))


def result(scan, method, roi, **params):
    plan = resolve(Choices(method=method, params=params, roi=roi, device="cpu"), scan)
    *_, last = run(plan, scan)
    assert last.outcome is Outcome.COMPLETED, last.advice
    return last.result


def test_filtered_back_projection_of_a_region_is_the_whole_cut():
    scan = tiny.cone()
    np.testing.assert_allclose(result(scan, "fdk", ROI), result(scan, "fdk", None)[BOX], rtol=1e-4, atol=1e-6)


def test_with_the_true_surroundings_the_region_is_all_that_is_left():
    scan = tiny.cone()
    physics = build_physics(scan, "cpu")
    inner = restrict_ct(scan, physics, BOX, torch.from_numpy(scan.truth))
    alone = build_physics(inner, "cpu").A(torch.from_numpy(inner.truth.copy())[None, None])[0, 0].numpy()
    whole = physics.A(torch.from_numpy(scan.truth)[None, None])[0, 0].numpy()
    rows = seeing_rows(scan.geometry, inner.grid)
    np.testing.assert_allclose(inner.measurements - alone, (scan.measurements - whole)[:, rows], atol=1e-4)
    assert inner.grid == scan.grid.restrict(BOX)


def test_an_iterative_region_is_nearly_as_good_as_the_whole():
    scan = tiny.cone(20, 30)
    truth = scan.truth[6:14]
    whole = psnr(result(scan, "tv-fista", None, n_iterations=15)[6:14], truth)
    assert psnr(result(scan, "tv-fista", (6, 14, 0, 20, 0, 20), n_iterations=15), truth) > whole - 2


def test_a_slab_of_mri_is_exact_when_the_mask_is_the_same_along_z():
    """Aᴴy and AᴴA of the slab are those of the whole, cut: the slab's problem is the whole's."""
    scan = tiny.multicoil()
    np.testing.assert_allclose(
        result(scan, "zero-filled", (2, 6, 0, 24, 0, 24)), result(scan, "zero-filled", None)[2:6], atol=1e-5
    )
    physics = build_physics(scan, "cpu")
    inner, _ = restrict_mri(scan, physics, (slice(2, 6), slice(0, 24), slice(0, 24)))
    slab = build_physics(inner, "cpu")
    x = torch.from_numpy(np.array(scan.truth))[None, None]
    whole = physics.A_adjoint(physics.A(x))[..., 2:6, :, :]
    torch.testing.assert_close(slab.A_adjoint(slab.A(x[..., 2:6, :, :])), whole, atol=1e-5, rtol=0)


def test_a_region_in_the_plane_is_cut_out_of_the_slab():
    scan = tiny.multicoil()
    inner, crop = restrict_mri(scan, build_physics(scan, "cpu"), BOX)
    assert inner.grid.shape == (4, 24, 24)
    assert crop == (slice(0, 4), BOX[1], BOX[2])
    assert result(scan, "zero-filled", ROI).shape == (4, 16, 16)


def test_a_mask_that_varies_along_z_needs_the_whole():
    scan = tiny.multicoil()
    scan.geometry.mask.setflags(write=True)
    try:
        scan.geometry.mask[0, 0, 0] ^= True
        same, crop = restrict_mri(scan, build_physics(scan, "cpu"), BOX)
    finally:
        scan.geometry.mask[0, 0, 0] ^= True
        scan.geometry.mask.setflags(write=False)
    assert same is scan
    assert crop == BOX


class Nothing(MethodParams):
    """No choices."""


def test_events_of_the_whole_arrive_cut_to_the_region():
    whole = np.arange(8 * 8 * 8, dtype=np.float32).reshape(8, 8, 8)
    box = (slice(2, 6), slice(0, 4), slice(0, 8))

    def work():
        yield PatchDone(box, whole[box])
        yield PatchDone((slice(0, 1),) * 3, whole[:1, :1, :1])
        yield IterationDone(1, 1, values=whole)
        return torch.zeros(1)

    crop = (slice(4, 8), slice(3, 5), slice(1, 3))
    patch, iteration = list(cropped(work(), crop))
    shown = np.zeros((4, 2, 2), np.float32)
    shown[patch.box] = patch.values
    np.testing.assert_array_equal(shown[:2, :1], whole[4:6, 3:4, 1:3])
    np.testing.assert_array_equal(iteration.values, whole[crop])


@pytest.mark.parametrize("make", [tiny.cone, tiny.multicoil], ids=["ct", "mri"])
def test_what_streams_fits_the_region(make, monkeypatch):
    def solve(problem, params):
        box = tuple(slice(0, n) for n in problem.shape)
        values = np.zeros(problem.shape, np.float32)
        yield PatchDone(box, values)
        yield IterationDone(1, 1, values=values)
        return torch.zeros(problem.shape)

    method = Method(name="invented", title="invented", summary="", source="", params=Nothing, solve=solve)
    monkeypatch.setitem(METHODS, "invented", method)
    scan = make()
    plan = resolve(Choices(method="invented", roi=ROI, device="cpu"), scan)
    shapes = {e.values.shape for e in run(plan, scan) if isinstance(e, (PatchDone, IterationDone))}
    assert shapes == {plan.grid.shape}


def test_a_region_of_an_image_is_the_whole_result_cut_out():
    scan = tiny.downsampled()
    whole, part = (result(scan, "tikhonov", roi) for roi in (None, (0, 2, 3, 12, 6, 18)))
    np.testing.assert_allclose(part, whole[:, 3:12, 6:18], atol=1e-6)


@pytest.mark.parametrize("make", [tiny.cone, tiny.odd_parallel], ids=["cone", "parallel"])
@pytest.mark.parametrize("part", [(0, 3), (2, 4)])
def test_rows_that_never_see_a_region_are_left_out(make, part):
    scan = make()
    box = (slice(*part), *(slice(2, n - 3) for n in scan.grid.shape[1:]))
    physics = build_physics(scan, "cpu")
    inner = restrict_ct(scan, physics, box, None)
    rows = seeing_rows(scan.geometry, scan.grid.restrict(box))
    assert (rows.stop - rows.start < scan.geometry.detector_shape[0]) == (make is tiny.cone)
    x = torch.zeros(1, 1, *scan.grid.shape)
    x[(..., *box)] = torch.rand(inner.grid.shape, generator=torch.Generator().manual_seed(0))
    whole = physics.A(x)
    torch.testing.assert_close(build_physics(inner, "cpu").A(x[(..., *box)]), whole[..., rows, :], atol=1e-4, rtol=1e-4)
    whole[..., rows, :] = 0
    assert not whole.any()
