import numpy as np
import pytest

from napari_unroll.errors import ScanError
from napari_unroll.io.scan_file import write_scan
from napari_unroll.pipeline.held_out import FIRST_SEED, fitted, generated, of_file, of_volumes
from napari_unroll.scan.phantoms import HELD_OUT_SEED
from tests.methods.tiny import cone, downsampled, multicoil, parallel


def test_generated_scans_are_held_out_and_all_differ():
    cases = generated(("cone-beam", "multi-coil"), (6,), (2,), 16, 2)
    scans = [case.make() for case in cases]
    assert [c.task for c in cases] == ["cone-beam", "multi-coil"] * 2
    assert all(s.provenance.seed >= HELD_OUT_SEED for s in scans)
    assert not np.array_equal(scans[0].truth, scans[2].truth)
    assert f"{FIRST_SEED + 1}" in cases[2].scan


def test_a_volume_is_fitted_in_its_proportions():
    ball = np.zeros((10, 40, 20), np.float32)
    ball[2:8, 10:30, 5:15] = 1
    out = fitted(ball, 20)
    assert out.shape == (20, 20, 20)
    filled = np.argwhere(out > 0.5)
    np.testing.assert_allclose(np.ptp(filled, axis=0) + 1, [3, 10, 5], atol=1)
    np.testing.assert_allclose(filled.mean(0), 9.5, atol=1)
    assert fitted(ball[:3, :4, :5], 20).shape == (20, 20, 20)


def test_volumes_of_a_folder_become_scans(tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "foam.npy", rng.random((10, 12, 14), np.float32))
    np.savez(tmp_path / "head.npz", rng.random((10, 24, 26), np.float32))
    cases = list(of_volumes(tmp_path, ("cone-beam", "multi-coil"), (4, 6), (2,), (12,)))
    assert [(c.task, c.level, c.data) for c in cases] == [
        ("cone-beam", 4, "foam"), ("cone-beam", 6, "foam"), ("multi-coil", 2, "head"),
    ]  # fmt: skip
    ct, mri = cases[0].make(), cases[2].make()
    assert ct.truth.shape == (12, 12, 12)
    assert ct.measurements.shape[0] == 4
    assert mri.truth.shape == (5, 12, 13)
    assert np.ptp(np.angle(mri.truth)) > 0.5
    assert {c.task for c in of_volumes(tmp_path, ("multi-coil",), (4,), (2,), (12,))} == {"multi-coil"}


def test_volumes_are_scanned_at_every_size_that_they_resolve(tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "foam.npy", rng.random((10, 12, 14), np.float32))
    np.savez(tmp_path / "head.npz", rng.random((10, 24, 26), np.float32))
    cases = list(of_volumes(tmp_path, ("cone-beam", "multi-coil"), (4,), (2,), (12, 24)))
    assert [c.data for c in cases] == ["foam at 12 voxels", "head at 12 voxels", "head at 24 voxels"]
    assert cases[2].make().truth.shape == (10, 24, 26)
    assert next(c.data for c in of_volumes(tmp_path, ("cone-beam",), (4,), (), (40, 60))) == "foam at 40 voxels"


def test_scan_files_say_their_own_task_and_level(tmp_path):
    scans = {"cone-beam": cone(), "parallel-beam": parallel(), "multi-coil": multicoil(), "image": downsampled()}
    for task, scan in scans.items():
        case = of_file(str(write_scan(tmp_path / f"{task}.h5", scan)))
        assert case.task == case.data == task
        np.testing.assert_array_equal(case.make().truth, scan.truth)
        assert case.level == pytest.approx(3 if task in ("multi-coil", "image") else 12, abs=0.6)


def test_a_file_without_truth_is_refused(tmp_path):
    from dataclasses import replace

    path = write_scan(tmp_path / "s.h5", replace(cone(), truth=None))
    with pytest.raises(ScanError, match="true volume"):
        of_file(str(path))
