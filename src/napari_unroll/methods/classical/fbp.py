"""Filtered back-projection of parallel beams as a method. The arithmetic and its sources are in ``physics.fdk``."""

from __future__ import annotations

from napari_unroll.methods.classical.fdk import FDKParams, solve
from napari_unroll.methods.memory import holding
from napari_unroll.methods.problem import Method
from napari_unroll.scan.geometry import ParallelBeam
from napari_unroll.scan.scan import Scan


def _refuses(scan: Scan) -> str:
    return "" if isinstance(scan.geometry, ParallelBeam) else "fbp is for parallel beams, fdk for this cone beam"


FBP = Method(
    name="fbp",
    title="FBP",
    summary="Filtered back-projection of parallel beams: instant and linear; few views leave streaks.",
    source="Kak and Slaney 1988, doi:10.1137/1.9780898719277, eq. 3.61",
    params=FDKParams,
    solve=solve,
    memory=holding(volumes=0.5, measurements=1.2),
    modalities=frozenset({"ct"}),
    iterative=False,
    refuses=_refuses,
)
