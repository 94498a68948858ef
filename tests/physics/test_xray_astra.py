"""ASTRA: refused in words where there is no GPU; against the CPU projector where there is one."""

import pytest
import torch

from napari_unroll.errors import DeviceError
from napari_unroll.physics import laws
from napari_unroll.physics.xray import XRay
from napari_unroll.physics.xray_astra import AstraXRay, is_usable
from tests.physics.test_xray import GRIDS, cone, parallel, tilted


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_is_refused_before_any_call():
    assert not is_usable()
    with pytest.raises(DeviceError, match="CUDA device"):
        AstraXRay(cone(), GRIDS[0])


@pytest.mark.cuda
@pytest.mark.parametrize("geometry", [cone(), tilted(cone()), parallel(), tilted(parallel())])
@pytest.mark.parametrize("grid", GRIDS[:2])
def test_agrees_with_the_cpu_projector(geometry, grid):
    gpu, cpu = AstraXRay(geometry, grid), XRay(geometry, grid)
    x = laws.random_like(gpu.x_shape, torch.float32, "cpu", 0).abs()
    a, b = gpu.A(x.cuda()).cpu(), cpu.A(x)
    assert torch.linalg.vector_norm(a - b) < 0.05 * torch.linalg.vector_norm(b)
    assert laws.adjoint_error(gpu) < 0.05
