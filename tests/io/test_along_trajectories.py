"""Three-dimensional and curved trajectories, from ISMRMRD files to the image."""

import numpy as np
import pytest
import torch

from napari_unroll.events import result_of
from napari_unroll.io.registry import read
from napari_unroll.methods.problem import Problem, as_values, measured
from napari_unroll.physics.build import build_physics
from napari_unroll.physics.nufft import NonCartesianMRI
from napari_unroll.pipeline.plan import Choices, resolve
from napari_unroll.pipeline.run import run
from napari_unroll.scan.trajectories import NonCartesianSampling, radial_3d, stack_of_stars
from tests.io import mri_samples as mri

N = 16


def spiral() -> np.ndarray:
    """Six interleaved arms (shot, sample, 3) in the plane, outwards."""
    t = np.sqrt(np.linspace(0, 1, 96, endpoint=False))
    turn = 2 * np.pi * (4 * t[None] + np.arange(6)[:, None] / 6)
    return 0.49 * t[None, :, None] * np.stack([0 * turn, np.sin(turn), np.cos(turn)], axis=2)


TRAJECTORIES = {
    "kooshball": ("radial", (N, N, N), radial_3d(300, 2 * N)),
    "stack of stars": ("radial", (4, N, N), stack_of_stars(24, 2 * N, 4)),
    "spiral": ("spiral", (1, N, N), spiral()),
}


@pytest.mark.parametrize("name", TRAJECTORIES)
def test_from_the_file_to_the_image(tmp_path, name):
    kind, shape, k = TRAJECTORIES[name]
    z, y, x = np.meshgrid(*(np.arange(n) - n // 2 for n in shape), indexing="ij")
    image = ((np.hypot(np.hypot(y - 1, x + 2), z) < 5) * 1.0).astype(np.complex64)
    coils = np.stack([np.exp(-((x - 6 * c) ** 2 + y**2) / 300) for c in (-1, 1)]).astype(np.complex64)
    sampling = NonCartesianSampling(trajectory=k, shape=shape, n_coils=2)
    values = NonCartesianMRI(sampling, coils).A(torch.from_numpy(image)[None, None])[0].numpy()
    readouts = [
        (values[:, s], k[s, :, :0:-1] if shape[0] == 1 else k[s, :, ::-1], (), {}, {"kspace_encode_step_1": s % 1000})
        for s in range(len(k))
    ]
    scan = read(mri.write_mrd(tmp_path / "a.mrd", readouts, mri.header(kind, shape[::-1], N)))
    np.testing.assert_allclose(scan.geometry.trajectory, k, atol=1e-6)
    assert scan.grid.shape == shape
    problem = Problem(scan=scan, physics=build_physics(scan, "cpu"), y=measured(scan, "cpu"))
    truth = np.abs(image) * np.sqrt((np.abs(coils) ** 2).sum(0))
    quick = np.abs(as_values(result_of(problem.find_quick())))
    assert np.corrcoef(quick.ravel(), truth.ravel())[0, 1] > 0.7
    *_, finished = run(resolve(Choices(method="cgls", device="cpu"), scan), scan)
    assert np.corrcoef(np.abs(finished.result).ravel(), truth.ravel())[0, 1] > 0.93
