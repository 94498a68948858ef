"""Which form and which kind of kernel suit a physics. Looks at the physics only; fits nothing."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_unroll.errors import ParameterError
from napari_unroll.normal.patch import Circular
from napari_unroll.normal.probes import CountedNormal, gaussian, relative_error

COIL_FORMS = ("coils", "virtual-coils", "single-coil")
ONE_SIDED = 0.1
"""Mean of the unit vectors towards the source (cone beams) above which views count as one-sided."""


def choose_form(physics: Any, form: str) -> str:
    """The form that ``auto`` means for this physics.

    coils are exact as a sum; cone beams that do not close their orbit need kernels that vary with position;
    everything else starts with one kernel and one weight. Raises ParameterError where ``form`` does not apply.
    """
    has_coils = hasattr(physics, "csm") and (hasattr(physics, "mask") or hasattr(physics, "kernel"))
    if form == "auto":
        return "coils" if has_coils else "sum" if one_sided(physics) else "dcd"
    if form in COIL_FORMS and not has_coils:
        raise ParameterError(f"The form {form} is for MRI with coil maps; choose auto or dcd for this scan.")
    if form == "sum" and physics.dtype.is_complex:
        raise ParameterError("The form sum is for real volumes; choose auto for this scan.")
    return form


def one_sided(physics: Any) -> bool:
    """Whether a cone beam's sources lie on one side of the volume (a short scan)."""
    if not getattr(physics, "is_cone", False):
        return False
    sources = np.asarray(physics.geometry.vectors)[:, :3]
    directions = sources / np.linalg.norm(sources, axis=1, keepdims=True)
    return bool(np.linalg.norm(directions.mean(0)[:2]) > ONE_SIDED)


def choose_kernel(normal: CountedNormal, kernel: str) -> Circular:
    """Circular or linear; ``auto`` is linear unless N commutes with a circular shift (two uncounted applications)."""
    if kernel == "auto":
        circular = not hasattr(normal.physics, "geometry") and commutes_with_shift(normal.physics)
    else:
        circular = kernel == "circular"
    return (circular, circular, circular)


def commutes_with_shift(physics: Any, tolerance: float = 1e-4) -> bool:
    """Whether N is a circular convolution, as far as one Gaussian vector and one odd shift can tell."""
    normal = CountedNormal(physics)
    x = gaussian(normal.shape, normal.dtype, 7, normal.device)
    shift = tuple(n // 3 for n in normal.shape)
    moved = normal(x.roll(shift, (-3, -2, -1)))
    return relative_error(moved, normal(x).roll(shift, (-3, -2, -1))) < tolerance
