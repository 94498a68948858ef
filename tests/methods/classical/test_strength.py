import numpy as np
import pytest
import torch

from napari_unroll.methods.classical.strength import mean_eigenvalue, resolve_strength, volume_scale
from tests.methods import tiny


@pytest.mark.parametrize("scan", [tiny.parallel((3, 7, 7), 15), tiny.multicoil((2, 8, 8))], ids=["ct", "mri"])
def test_the_mean_eigenvalue_is_the_trace_over_the_size(scan):
    problem = tiny.problem(scan)
    trace = np.square(np.abs(tiny.dense(problem))).sum()
    assert mean_eigenvalue(problem.physics) == pytest.approx(trace / np.prod(problem.shape), rel=0.3)


def test_the_scale_is_that_of_the_object_not_of_the_empty_space():
    x = torch.zeros(1, 1, 8, 8, 8)
    x[..., 2:4, 2:4, 2:4] = 3.0
    assert volume_scale(x) == pytest.approx(3.0)
    assert volume_scale(torch.zeros(1, 1, 2, 2, 2)) == 0.0


def test_auto_is_the_default_of_the_modality():
    defaults = {"ct": 0.1, "mri": 0.2}
    assert resolve_strength("auto", defaults, tiny.multicoil()) == 0.2
    assert resolve_strength(3.0, defaults, tiny.multicoil()) == 3.0
