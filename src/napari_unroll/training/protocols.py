"""Scan protocols to train for: a fixed scanner, many objects. Each makes scans with known truth from seeds or volumes.

Training seeds stay below ``HELD_OUT_SEED``, so that built-in samples and evaluations are never seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from napari_unroll.errors import ParameterError
from napari_unroll.events import Event, Finished, Outcome, Progress, Started, Stop
from napari_unroll.methods.unrolled.network import UnrolledConfig
from napari_unroll.normal.fit import FitOptions, fit_now
from napari_unroll.physics.build import build_physics
from napari_unroll.physics.samples import cone_beam_setup
from napari_unroll.physics.simulate import Exposure, simulate_ct, simulate_mri
from napari_unroll.scan.phantoms import HELD_OUT_SEED, brain, coil_maps, poisson_disc_mask, random_volume
from napari_unroll.scan.scan import Scan
from napari_unroll.training.samples import SampleStore, build_sample


class ScanProtocol(Protocol):
    """One scanner setting; all its scans share a normal operator."""

    @property
    def name(self) -> str: ...

    def scan(self, seed: int) -> Scan: ...


@dataclass(frozen=True)
class ConeBeamProtocol:
    """The built-in cone-beam orbit with ``n_views`` views on n³ voxels; photons drawn log-uniformly per scan.

    Objects are projected on a grid ``oversample`` times finer. With 1 the projector of the reconstruction has made the
    data, and a network learns to trust them far more than any measured scan allows.
    """

    n: int = 96
    n_views: int = 50
    photons: tuple[float, float] = (3e4, 3e5)
    oversample: int = 2

    @property
    def name(self) -> str:
        """For cards and logs."""
        return f"cone beam, {self.n_views} views, {self.n} voxels cubed"

    def scan(self, seed: int) -> Scan:
        """A scan of generated object ``seed``."""
        geometry, grid = cone_beam_setup(self.n, self.n_views)
        volume = random_volume((self.oversample * self.n,) * 3, seed)
        low, high = np.log10(self.photons)
        photons = float(10 ** np.random.default_rng(seed).uniform(low, high))
        return simulate_ct(volume, geometry, grid, Exposure(photons=photons), seed)


@dataclass(frozen=True)
class MultiCoilProtocol:
    """Multi-coil MRI with one set of coil maps and one Poisson-disc mask, both from ``setup_seed``."""

    shape: tuple[int, int, int] = (48, 96, 96)
    n_coils: int = 8
    acceleration: float = 5
    noise: float = 0.01
    setup_seed: int = 0

    @property
    def name(self) -> str:
        """For cards and logs."""
        return f"{self.n_coils} coils, R = {self.acceleration:g}, {'×'.join(map(str, self.shape))}"

    def scan(self, seed: int) -> Scan:
        """A scan of generated brain ``seed``."""
        calibration = max(2, round(0.1 * min(self.shape[1:])))
        mask = poisson_disc_mask(self.shape[1:], self.acceleration, calibration, self.setup_seed)
        maps = coil_maps(self.shape, self.n_coils, self.setup_seed)
        return simulate_mri(brain(self.shape, seed), maps, mask, self.noise, seed)


def build(
    store: SampleStore,
    protocols: Sequence[ScanProtocol],
    seeds: Sequence[int],
    config: UnrolledConfig,
    stop: Stop | None = None,
) -> Iterator[Event]:
    """Fit every protocol once, then simulate and keep one sample per (seed, protocol); the result is the store.

    Raises ParameterError where a seed is held out for evaluation.
    """
    if max(seeds, default=0) >= HELD_OUT_SEED:
        raise ParameterError(f"Training seeds must be below {HELD_OUT_SEED}; the rest is held out for evaluation.")
    stop = stop or Stop()
    n_steps = len(seeds) * len(protocols)
    yield Started("building training samples", n_steps)
    first = len(store.protocols())
    operators: list[Any] = [build_physics(protocol.scan(0)) for protocol in protocols]
    factors = [fit_now(physics, FitOptions(n_test=0)) for physics in operators]
    for i, fitted in enumerate(factors):
        store.add_protocol(fitted, first + i)
    for done, (seed, i) in enumerate((s, i) for s in seeds for i in range(len(protocols))):
        if stop.cancelled or stop.finish_now:
            break
        store.add(build_sample(protocols[i].scan(seed), operators[i], config, factors[i]), first + i)
        yield Progress(done + 1, n_steps, f"{protocols[i].name}, object {seed}")
    outcome = Outcome.FINISHED_EARLY if stop.cancelled or stop.finish_now else Outcome.COMPLETED
    yield Finished(outcome, store, f"{len(store)} samples of {first + len(protocols)} protocols in {store.folder}.")
