"""Every method by name. Adding a method means one file and one line here.

Docks, the command line, the tables in the documentation and the tests that run every method all read this registry.
"""

from __future__ import annotations

from napari_unroll.errors import ParameterError, WeightsError
from napari_unroll.methods.algorithms.deep_equilibrium import DE_GRAD, DEQ4IP
from napari_unroll.methods.algorithms.dpir import DPIR, DPIR_RAM
from napari_unroll.methods.algorithms.implicit import INR
from napari_unroll.methods.algorithms.luser import LU_DNCNN, LUSER_DW, LUSER_SW
from napari_unroll.methods.algorithms.modl import ADMM_NET, MODL
from napari_unroll.methods.algorithms.mol import MOL_LR, MOL_SN
from napari_unroll.methods.algorithms.plug_and_play import PNP_PGD
from napari_unroll.methods.algorithms.post_processing import DRUNET, UNET
from napari_unroll.methods.algorithms.unrolled import UNROLLED_PGD
from napari_unroll.methods.classical.cg_sense import CG_SENSE
from napari_unroll.methods.classical.cgls import CGLS
from napari_unroll.methods.classical.fbp import FBP
from napari_unroll.methods.classical.fdk import FDK
from napari_unroll.methods.classical.interpolation import INTERPOLATION
from napari_unroll.methods.classical.sirt import SIRT
from napari_unroll.methods.classical.tikhonov import TIKHONOV
from napari_unroll.methods.classical.tv_fista import TV_FISTA
from napari_unroll.methods.classical.tv_pdhg import TV_PDHG
from napari_unroll.methods.classical.wavelet_l1 import WAVELET_L1
from napari_unroll.methods.classical.zero_filled import ZERO_FILLED
from napari_unroll.methods.problem import Method
from napari_unroll.scan.scan import Scan

_ALL = (
    FDK, FBP, ZERO_FILLED, INTERPOLATION, CGLS, CG_SENSE, SIRT, TIKHONOV, WAVELET_L1, TV_PDHG, TV_FISTA, INR, UNET,
    DRUNET, PNP_PGD, DPIR_RAM, DPIR,
    LU_DNCNN, MODL, ADMM_NET, DE_GRAD, DEQ4IP, MOL_SN, MOL_LR, LUSER_SW, LUSER_DW,
    UNROLLED_PGD,
)  # fmt: skip
METHODS: dict[str, Method] = {m.name: m for m in _ALL}


def get(name: str) -> Method:
    """The method of that name; raises ParameterError with the known names."""
    try:
        return METHODS[name]
    except KeyError:
        raise ParameterError(f"Expected one of the methods {', '.join(METHODS)}; got {name!r}.") from None


def trainable() -> list[Method]:
    """The methods whose network can be trained."""
    return [m for m in METHODS.values() if m.learning is not None]


def for_scan(scan: Scan) -> list[Method]:
    """The methods that apply to this scan, simplest first."""
    return [m for m in METHODS.values() if not m.obstacle(scan)]


def default_for(scan: Scan) -> Method:
    """The strongest method that can run on this scan: an iterative one with weights for it, else total variation."""
    learned = [m for m in reversed(for_scan(scan)) if m.needs_weights and m.iterative]
    return next((m for m in learned if _has_own_weights(m, scan)), classical_default())


def classical_default() -> Method:
    """The strongest method without weights: total variation."""
    return METHODS["tv-fista"]


def _has_own_weights(method: Method, scan: Scan) -> bool:
    """Whether its default weights were trained for this modality: a denoiser of CT slices is a makeshift for images."""
    if not has_weights(method, scan) or method.find_weights is None:
        return False
    return bool(getattr(method.find_weights(scan, method.params()), "modality", scan.modality) == scan.modality)


def has_weights(method: Method, scan: Scan) -> bool:
    """Whether the method needs no weights, or its default ones for this scan are there."""
    if not method.needs_weights or method.find_weights is None:
        return True
    try:
        method.find_weights(scan, method.params())
    except WeightsError:
        return False
    return True
