"""Building the samples that a split asks for: fit every scanner once, then simulate, start, and keep.

A generator of events that may be killed at any moment: what is in the store is not made again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import psutil

from napari_unroll.events import Progress, Warned
from napari_unroll.normal.factors import NormalFactors
from napari_unroll.normal.fit import FitOptions, fit_now
from napari_unroll.physics.build import build_physics
from napari_unroll.physics.volume_physics import VolumePhysics
from napari_unroll.scan.scan import Scan
from napari_unroll.training.contexts import Volumes
from napari_unroll.training.dataset import SampleSpec
from napari_unroll.training.samples import Sample, SampleStore, build_clean_sample, build_sample
from napari_unroll.training.symmetries import find_symmetries

MEMORY_SHARE = 0.4
"""The part of the memory available now that samples may take; beyond it they are read whenever they are used."""


class Operators:
    """The operator and the factors of every scanner, made from the first scan that needs them."""

    def __init__(self, store: SampleStore, device: str) -> None:
        self.store, self.device = store, device
        self._physics: dict[int, VolumePhysics] = {}
        self._factors: dict[int, NormalFactors] = {}

    def physics(self, scanner: int, scan: Scan) -> VolumePhysics:
        """The operator of ``scan``, shared by its scanner; fits its approximation and finds its symmetries once."""
        if scanner not in self._physics:
            physics = build_physics(scan, self.device)
            if not self.store.has_scanner(scanner):
                self.store.add_scanner(fit_now(physics, FitOptions(n_test=0)), scanner, find_symmetries(physics))
            self._physics[scanner] = physics
        return self._physics[scanner]

    def all_physics(self, specs: Sequence[SampleSpec]) -> list[VolumePhysics]:
        """The operators of all scanners in their order, of those not yet made from the first spec of each."""
        first = {spec.scanner: spec for spec in reversed(specs)}
        return [self._physics.get(p) or self.physics(p, first[p].make()) for p in sorted(first)]

    def factors(self, scanner: int) -> NormalFactors:
        """The fitted factors of a scanner whose operator was made, on the device."""
        if scanner not in self._factors:
            self._factors[scanner] = self.store.scanner(scanner).to(self.device)
        return self._factors[scanner]


def build(
    store: SampleStore, specs: Sequence[SampleSpec], make: Callable[[SampleSpec], Volumes]
) -> Iterator[Progress | Warned]:
    """Make the samples that the store lacks or that are damaged, number i from spec i. Where it is stopped, what was made stays."""
    for i, spec in enumerate(specs):
        if store.drop_damaged(i):
            yield Warned(f"Training sample {i} is damaged; it is built again.")
        if i not in store:
            store.add(make(spec), spec.scanner, i)
        yield Progress(i + 1, len(specs), "building training samples")


def local_problems(operators: Operators, start_iterations: int) -> Callable[[SampleSpec], Volumes]:
    """How the samples of local problems are made."""

    def make(spec: SampleSpec) -> Volumes:
        scan = spec.make()
        physics = operators.physics(spec.scanner, scan)
        return build_sample(scan, physics, start_iterations, operators.factors(spec.scanner))

    return make


def clean_volumes(spec: SampleSpec) -> Volumes:
    """The sample of a denoiser; nothing is measured for it."""
    return build_clean_sample(spec.truth())


@dataclass(frozen=True)
class StoredSamples(Sequence[Sample]):
    """The first ``n`` samples of a store, read whenever they are used."""

    store: SampleStore
    n: int

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: Any) -> Any:
        if not 0 <= index < self.n:
            raise IndexError(index)
        return self.store.load(index)


def load_samples(store: SampleStore, n: int) -> Sequence[Sample]:
    """The first ``n`` samples: in memory where they take little of it, else read when used."""
    stored = StoredSamples(store, n)
    one = sum(values.nbytes for values in stored[0][0].values()) if n else 0
    fits = n * one < MEMORY_SHARE * psutil.virtual_memory().available
    return list(stored) if fits else stored
