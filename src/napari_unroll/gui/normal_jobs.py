"""The works of the Normal operator dock as generators of events: fit, compare N with Ñ, evaluate a patch.

Each calls functions of ``normal`` and ``physics`` and ends with Finished(result). Knows no Qt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_unroll.events import Box, Event, Finished, Started, Stop
from napari_unroll.gui.jobs import single
from napari_unroll.interrupt import stage, stepwise
from napari_unroll.methods.problem import as_tensor
from napari_unroll.normal import inspect
from napari_unroll.normal.cache import cached_fit
from napari_unroll.normal.effect import ImageError, final_image_error
from napari_unroll.normal.factors import NormalFactors
from napari_unroll.normal.fit import FitOptions, fit_now
from napari_unroll.normal.probes import gaussian, relative_error
from napari_unroll.normal.swap import Swap, swap
from napari_unroll.physics.build import build_physics
from napari_unroll.physics.coil_physics import csm_of
from napari_unroll.physics.volume_physics import VolumePhysics
from napari_unroll.scan.scan import Scan

Make = Callable[[Stop], Iterator[Event]]


@dataclass(frozen=True)
class Fitted:
    """A fitted approximation, the operator it approximates, and the seconds that the fit took."""

    factors: NormalFactors
    physics: VolumePhysics
    seconds: float


def fit(scan: Scan, options: FitOptions, physics: VolumePhysics | None = None, device: str = "auto") -> Make:
    """Fit Ñ, or take it from the cache; the result is a Fitted."""

    def run(stop: Stop) -> Iterator[Event]:
        yield Started("building the operator")
        build = lambda: physics if physics is not None else build_physics(scan, device)  # noqa: E731
        operator = yield from stepwise(build, "building the operator")
        for event in cached_fit(scan, operator, options, stop):
            if isinstance(event, Finished) and event.result is not None:
                result = Fitted(event.result, operator, float(event.result.info.get("seconds", event.seconds)))
                yield Finished(event.outcome, result, event.advice, event.seconds, event.history)
            else:
                yield event

    return run


@dataclass(frozen=True)
class Compared:
    """Both operators applied to one volume, with the error against frequency and against position."""

    pair: inspect.Comparison
    by_frequency: inspect.Profile
    by_position: np.ndarray
    form: str


def compare(fitted: Fitted, make_x: Callable[[], Any]) -> Make:
    """Apply both operators to one volume; the result is a Compared."""

    def work() -> Compared:
        pair = inspect.compare(fitted.physics, fitted.factors, make_x())
        where = inspect.error_against_position(pair)
        return Compared(pair, inspect.error_against_frequency(pair), where, fitted.factors.form)

    return single("comparison of N x and Ñ x", work)


def image_error(fitted: Fitted, truth: np.ndarray) -> Make:
    """What Ñ does to a reconstruction of ``truth`` (z, y, x); the result is an ImageError."""
    physics = fitted.physics

    def work() -> ImageError:
        return final_image_error(physics, fitted.factors, as_tensor(truth, physics))

    return single("effect on a reconstruction", work)


def n_coils(fitted: Fitted) -> int:
    """How many coils measured, 0 for other scans."""
    return 0 if fitted.physics.csm is None else int(csm_of(fitted.physics).shape[0])


def swap_in(fits: Sequence[Fitted], found: inspect.Comparison, region: Box, edge: int, n_virtual: int = 0) -> Make:
    """What the Ñ of every fit does in a patch about a region, the one of ``n_virtual`` coils last; the result is a Swap."""
    physics = fits[-1].physics

    def work() -> Swap:
        factors = [fitted.factors for fitted in fits]
        if n_virtual:
            factors.append(fit_now(physics, FitOptions(form="virtual-coils", n_terms=n_virtual, n_test=0)))
        return swap(physics, factors, found, region, edge)

    return single("Ñ in the region", work)


@dataclass(frozen=True)
class PatchCheck:
    """Ñ restricted to one patch: its kernel's size, the times, and its distance from the whole operator."""

    times: inspect.PatchTimes
    kernel_bytes: int
    error_to_whole: float


def check_patch(fitted: Fitted, edge: int) -> Make:
    """Evaluate P Ñ Pᵀ on the central patch; the result is a PatchCheck."""
    return single("patch", lambda: _patch_check(fitted, edge))


def _patch_check(fitted: Fitted, edge: int) -> PatchCheck:
    factors, physics = fitted.factors, fitted.physics
    patch = tuple(min(edge, n) for n in factors.shape)
    box: Any = tuple(slice((n - p) // 2, (n - p) // 2 + p) for n, p in zip(factors.shape, patch, strict=True))
    u = gaussian(patch, physics.dtype, 0, physics.device)  # type: ignore[arg-type]
    whole = u.new_zeros((1, 1, *factors.shape))
    whole[(..., *box)] = u
    with stage(2) as done:
        done(0)
        distance = relative_error(factors.apply(whole)[(..., *box)], factors.restrict(box).apply(u))
        done(1)
        times = inspect.time_patches(physics, factors, edge)
    kernel = factors.crop(patch).kernel  # type: ignore[arg-type]
    return PatchCheck(times, kernel.element_size() * kernel.nelement(), distance)
