"""What is said to be positive is, by its eigenvalues, whole and on patches; what is not, is refused in words."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
import torch

from napari_unroll.errors import ParameterError
from napari_unroll.normal.fit import FitOptions, fit_now
from napari_unroll.normal.positivity import is_positive, refuse_unless_positive
from napari_unroll.normal.precondition import regularised_inverse
from napari_unroll.normal.storage import load, save
from napari_unroll.physics.nufft import NonCartesianMRI
from napari_unroll.scan.phantoms import coil_maps
from napari_unroll.scan.trajectories import NonCartesianSampling, radial_3d
from tests.normal.toys import circular_blur, coils, cone, dense, gap, inpainting


def radial():
    shape = (6, 5, 7)
    sampling = NonCartesianSampling(trajectory=radial_3d(12, 10), shape=shape, n_coils=3)
    return NonCartesianMRI(sampling, coil_maps(shape, 3))


MAKERS = {
    "cone": lambda: cone(8, 4),
    "coils": lambda: coils((4, 6, 5)),
    "radial": radial,
    "blur": lambda: circular_blur((4, 6, 5)),
    "inpainting": lambda: inpainting((4, 6, 5)),
}


@cache
def fitted(name, **options):
    return fit_now(MAKERS[name](), FitOptions(n_test=0, **options))


def least(factors, box=None):
    """Least eigenvalue over the largest, and ‖M − Mᴴ‖ / ‖M‖."""
    apply = factors.apply if box is None else factors.restrict(box).apply
    shape = factors.shape if box is None else tuple(s.stop - s.start for s in box)
    m = dense(apply, shape, factors.dtype).to(torch.complex128)
    values = torch.linalg.eigvalsh((m + m.conj().T) / 2)
    return float(values[0] / values[-1]), gap(m, m.conj().T)


def box(*size):
    return tuple(slice(1, 1 + n) for n in size)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("cone", {"form": "dcd"}),
        ("blur", {}),
        ("inpainting", {}),
        ("coils", {"form": "coils"}),
        ("coils", {"form": "virtual-coils", "n_terms": 2}),
        ("coils", {"form": "single-coil"}),
        ("radial", {"form": "coils"}),
        ("radial", {"form": "virtual-coils", "n_terms": 2}),
        ("radial", {"form": "dcd"}),
        ("blur", {"recipe": "paper", "form": "dcd", "n_steps": 64}),
    ],
)
@pytest.mark.parametrize("where", [None, box(3, 4, 2)])
def test_positive_by_structure_is_positive_by_eigenvalues(name, options, where):
    factors = fitted(name, **options)
    assert is_positive(factors, where)
    value, asymmetry = least(factors, where)
    assert value > -1e-6
    assert asymmetry < 1e-6


def test_short_kernels_are_positive_on_the_patches_they_are_for_and_nowhere_else():
    short = fitted("cone", form="dcd", support=3)
    assert is_positive(short, box(3, 3, 3))
    assert is_positive(short, [box(2, 3, 3), box(2, 3, 3)])
    assert least(short, box(3, 3, 3))[0] > 0
    for where in (None, box(4, 4, 4), box(3, 3, 4)):
        assert not is_positive(short, where)
    assert least(short)[0] < -1e-2
    assert least(short, box(4, 4, 4))[0] < -1e-2
    cropped = fitted("cone", form="dcd").crop((3, 3, 3))
    assert is_positive(cropped, box(3, 3, 3))
    assert not is_positive(cropped)


@pytest.mark.parametrize("options", [{"form": "dc"}, {"form": "cd"}, {"recipe": "paper", "n_steps": 32}])
def test_one_sided_weights_are_not_self_adjoint(options):
    factors = fitted("cone", **options)
    assert not is_positive(factors)
    assert least(factors)[1] > 1e-3
    with pytest.raises(ParameterError, match=r"MoDL needs .* fit the form dcd"):
        refuse_unless_positive(factors, box(3, 3, 3), "MoDL")


def test_nothing_keeps_kernels_that_vary_positive():
    factors = fitted("cone", form="sum")
    assert least(factors)[0] < -1e-4
    with pytest.raises(ParameterError, match="varying kernels"):
        refuse_unless_positive(factors)


def test_one_coil_along_a_trajectory_has_negative_frequencies():
    factors = fitted("radial", form="single-coil")
    assert least(factors)[0] < -1e-4
    with pytest.raises(ParameterError, match=r"negative frequencies; fit .* coils"):
        refuse_unless_positive(factors)


def test_too_large_a_patch_is_refused_with_the_size_that_works():
    short = fitted("cone", form="dcd", support=3)
    refuse_unless_positive(short, box(3, 3, 3))
    with pytest.raises(ParameterError, match="patches of at most 3 voxels"):
        refuse_unless_positive(short, box(3, 3, 5))


def test_inverses_are_positive_where_their_kernels_reach():
    inverse = regularised_inverse(fitted("cone", form="dcd"), 0.05)
    assert is_positive(inverse)
    assert least(inverse)[0] > 0
    short = regularised_inverse(fitted("cone", form="dcd", support=3), 0.05)
    assert is_positive(short, box(3, 3, 3))
    assert not is_positive(short)


def test_any_negative_frequency_of_a_given_kernel_counts():
    factors = fitted("blur")
    bare = replace(factors, positive_kernel=False, _cache={})
    assert is_positive(bare)
    assert not is_positive(replace(bare, kernel=-bare.kernel, _cache={}))
    skewed = bare.kernel.clone()
    skewed[0, 0, 0, 1] += 0.1
    assert not is_positive(replace(bare, kernel=skewed, _cache={}))


def test_files_keep_it(tmp_path):
    factors = fitted("cone", form="dcd")
    save(factors, tmp_path / "n.safetensors")
    assert is_positive(load(tmp_path / "n.safetensors"))
