"""Which form and which kind of kernel suit a physics. Looks at the physics only; fits nothing."""

from __future__ import annotations

from napari_unroll.errors import ParameterError
from napari_unroll.normal.probes import CountedNormal, gaussian, relative_error
from napari_unroll.physics.convolution import Circular
from napari_unroll.physics.volume_physics import VolumePhysics

COIL_FORMS = ("coils", "virtual-coils", "single-coil")
CLOSED_FORMS = (*COIL_FORMS, "phases")
"""Forms that are known at once, without a fit."""


def choose_form(physics: VolumePhysics, form: str) -> str:
    """The form that ``auto`` means for this physics.

    coils are exact as a sum, and so are the phases of blurred and downsampled images; cone beams that do not close their
    orbit need kernels that vary with position; everything else starts with one kernel and one weight. Raises
    ParameterError where ``form`` does not apply.
    """
    if form == "auto":
        return _suiting(physics)
    if form in COIL_FORMS and physics.csm is None:
        raise ParameterError(f"The form {form} is for MRI with coil maps; choose auto or dcd for this scan.")
    if form == "sum" and physics.dtype.is_complex:
        raise ParameterError("The form sum is for real volumes; choose auto for this scan.")
    if form == "phases" and physics.period is None:
        raise ParameterError(
            "The form phases is for deblurring and super-resolution; choose auto or dcd for this scan."
        )
    return form


def _suiting(physics: VolumePhysics) -> str:
    if physics.csm is not None:
        return "coils"
    if physics.period is not None:
        return "phases"
    return "sum" if physics.is_one_sided else "dcd"


def choose_kernel(normal: CountedNormal, kernel: str) -> Circular:
    """Circular or linear; ``auto`` is linear unless N commutes with circular shifts (two uncounted applications to find out)."""
    if kernel == "auto":
        known = normal.physics.is_periodic
        circular = commutes_with_shift(normal.physics) if known is None else known
    else:
        circular = kernel == "circular"
    return (circular, circular, circular)


def commutes_with_shift(physics: VolumePhysics, tolerance: float = 1e-4) -> bool:
    """Whether N is a circular convolution, as far as one Gaussian vector and one odd shift can tell."""
    normal = CountedNormal(physics)
    x = gaussian(normal.shape, normal.dtype, 7, normal.device)
    shift = tuple(n // 3 for n in normal.shape)
    moved = normal(x.roll(shift, (-3, -2, -1)))
    return relative_error(moved, normal(x).roll(shift, (-3, -2, -1))) < tolerance
