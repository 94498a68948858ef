"""Building the samples that a recipe asks for: fit every protocol once, then simulate, start, and keep.

A generator of events that may be killed at any moment: what is in the store is not made again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import psutil

from napari_unroll.events import Progress
from napari_unroll.normal.factors import NormalFactors
from napari_unroll.normal.fit import FitOptions, fit_now
from napari_unroll.physics.build import build_physics
from napari_unroll.physics.volume_physics import VolumePhysics
from napari_unroll.scan.scan import Scan
from napari_unroll.training.contexts import Volumes
from napari_unroll.training.recipe import Job
from napari_unroll.training.samples import Sample, SampleStore, build_clean_sample, build_sample
from napari_unroll.training.symmetries import find_symmetries

MEMORY_SHARE = 0.4
"""The part of the memory available now that samples may take; beyond it they are read whenever they are used."""


class Scanners:
    """The operator and the factors of every protocol, made from the first scan that needs them."""

    def __init__(self, store: SampleStore, device: str) -> None:
        self.store, self.device = store, device
        self._physics: dict[int, VolumePhysics] = {}
        self._factors: dict[int, NormalFactors] = {}

    def physics(self, protocol: int, scan: Scan) -> VolumePhysics:
        """The operator of ``scan``, shared by its protocol; fits its approximation and finds its symmetries once."""
        if protocol not in self._physics:
            physics = build_physics(scan, self.device)
            if not self.store.has_protocol(protocol):
                self.store.add_protocol(fit_now(physics, FitOptions(n_test=0)), protocol, find_symmetries(physics))
            self._physics[protocol] = physics
        return self._physics[protocol]

    def all_physics(self, jobs: Sequence[Job]) -> list[VolumePhysics]:
        """The operators of all protocols in their order, of those not yet made from the first job of each."""
        first = {job.protocol: job for job in reversed(jobs)}
        return [self._physics.get(p) or self.physics(p, first[p].make()) for p in sorted(first)]

    def factors(self, protocol: int) -> NormalFactors:
        """The fitted factors of a protocol whose operator was made, on the device."""
        if protocol not in self._factors:
            self._factors[protocol] = self.store.protocol(protocol).to(self.device)
        return self._factors[protocol]


def build(store: SampleStore, jobs: Sequence[Job], make: Callable[[Job], Volumes]) -> Iterator[Progress]:
    """Make the samples that the store lacks, number i from job i. Where it is stopped, what was made stays."""
    for i, job in enumerate(jobs):
        if i not in store:
            store.add(make(job), job.protocol, i)
        yield Progress(i + 1, len(jobs), "building training samples")


def local_problems(scanners: Scanners, start_iterations: int) -> Callable[[Job], Volumes]:
    """How the samples of local problems are made."""

    def make(job: Job) -> Volumes:
        scan = job.make()
        physics = scanners.physics(job.protocol, scan)
        return build_sample(scan, physics, start_iterations, scanners.factors(job.protocol))

    return make


def clean_volumes(job: Job) -> Volumes:
    """The sample of a denoiser; nothing is measured for it."""
    return build_clean_sample(job.truth())


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
