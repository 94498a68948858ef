"""Which form and which kind of kernel suit a physics. Looks at the physics only; fits nothing."""

from __future__ import annotations

from napari_unroll.errors import ParameterError
from napari_unroll.normal.patch import Circular
from napari_unroll.normal.probes import CountedNormal, gaussian, relative_error
from napari_unroll.physics.volume_physics import VolumePhysics

COIL_FORMS = ("coils", "virtual-coils", "single-coil")


def choose_form(physics: VolumePhysics, form: str) -> str:
    """The form that ``auto`` means for this physics.

    coils are exact as a sum; cone beams that do not close their orbit need kernels that vary with position;
    everything else starts with one kernel and one weight. Raises ParameterError where ``form`` does not apply.
    """
    has_coils = physics.csm is not None
    if form == "auto":
        return "coils" if has_coils else "sum" if physics.is_one_sided else "dcd"
    if form in COIL_FORMS and not has_coils:
        raise ParameterError(f"The form {form} is for MRI with coil maps; choose auto or dcd for this scan.")
    if form == "sum" and physics.dtype.is_complex:
        raise ParameterError("The form sum is for real volumes; choose auto for this scan.")
    return form


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
