from dataclasses import replace

import pytest
import torch

from napari_unroll.errors import DeviceError, ParameterError
from napari_unroll.physics import build
from napari_unroll.physics.build import build_physics, choose_device
from napari_unroll.physics.fourier import CartesianMRI
from napari_unroll.physics.laws import adjoint_error
from napari_unroll.physics.samples import sample_cone_beam, sample_multicoil
from napari_unroll.physics.xray import XRay
from napari_unroll.scan.scan import Scan


@pytest.fixture(scope="module")
def cone() -> Scan:
    return sample_cone_beam(n=12, n_views=5)


@pytest.fixture(scope="module")
def brain() -> Scan:
    return sample_multicoil((2, 32, 32), n_coils=4, acceleration=3)


def test_ct_on_the_cpu(cone: Scan) -> None:
    physics = build_physics(cone, device="cpu")
    assert isinstance(physics, XRay)
    assert physics.y_shape[2:] == cone.measurements.shape
    assert "CPU projector" in physics.reason
    assert "because" in physics.reason
    assert adjoint_error(physics) < 1e-6


def test_mri_uses_the_maps_of_the_scan(brain: Scan) -> None:
    physics = build_physics(brain, device="cpu")
    assert isinstance(physics, CartesianMRI)
    assert "given" in physics.reason
    torch.testing.assert_close(physics.csm, torch.from_numpy(brain.csm))
    assert adjoint_error(physics) < 1e-6


def test_mri_estimates_maps_that_are_missing(brain: Scan) -> None:
    physics = build_physics(replace(brain, csm=None), device="cpu")
    assert "estimated" in physics.reason
    assert tuple(physics.csm.shape) == brain.measurements.shape


def test_astra_without_cuda_is_refused_in_words(cone: Scan) -> None:
    with pytest.raises(DeviceError, match="ASTRA cannot be used because"):
        build_physics(cone, device="cpu", backend="astra")


def test_the_obstacle_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build.importlib.util, "find_spec", lambda name: None)
    assert "not installed" in build.astra_obstacle(torch.device("cuda"))
    assert build.astra_obstacle(torch.device("cpu"))


def test_wishes_that_cannot_be_met_are_said(cone: Scan) -> None:
    with pytest.raises(ParameterError, match="back end"):
        build_physics(cone, backend="rtk")
    with pytest.raises(DeviceError, match="no device"):
        choose_device("cuda:99")
    with pytest.raises(DeviceError, match="Expected a device"):
        choose_device("toaster")
    assert choose_device("cpu") == torch.device("cpu")


@pytest.mark.cuda
def test_mri_on_the_gpu(brain: Scan) -> None:
    physics = build_physics(brain)
    assert physics.device.type == "cuda"
    assert adjoint_error(physics) < 1e-6
