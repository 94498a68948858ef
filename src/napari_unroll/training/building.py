"""Building the samples that a split asks for: fit every scanner once, then simulate, start, and keep.

A generator of events that may be killed at any moment: what is in the store is not made again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psutil

from napari_unroll.errors import FileFormatError
from napari_unroll.events import Progress, Warned
from napari_unroll.methods.algorithms.network import NetworkConfig
from napari_unroll.normal.factors import NormalFactors
from napari_unroll.normal.fit import FitOptions, fit_now
from napari_unroll.physics.build import build_physics
from napari_unroll.physics.volume_physics import VolumePhysics
from napari_unroll.scan.scan import Scan
from napari_unroll.training.contexts import Volumes
from napari_unroll.training.dataset import SampleSpec
from napari_unroll.training.samples import Sample, SampleStore, build_clean_sample, build_sample
from napari_unroll.training.symmetries import Symmetry, find_symmetries

BUILDING = "building training samples"
Symmetries = tuple[Symmetry, ...]
MEMORY_SHARE = 0.4
"""The part of the memory available now that samples may take; beyond it they are read whenever they are used."""


class Operators:
    """The operator, the factors and the symmetries of every scanner; each is read, or fitted, once."""

    def __init__(self, store: SampleStore, device: str) -> None:
        self.store, self.device = store, device
        self._physics: dict[int, VolumePhysics] = {}
        self._known: dict[int, tuple[NormalFactors, Symmetries]] = {}

    def physics(self, scanner: int, scan: Scan) -> VolumePhysics:
        """The operator of ``scan``, shared by its scanner; fits its approximation and finds its symmetries once."""
        if scanner not in self._physics:
            physics = build_physics(scan, self.device)
            if not self.is_known(scanner):
                factors, symmetries = fit_now(physics, FitOptions(n_test=0)), find_symmetries(physics)
                self.store.add_scanner(factors, scanner, symmetries)
                self._known[scanner] = factors.to(self.device), symmetries
            self._physics[scanner] = physics
        return self._physics[scanner]

    def all_physics(self, specs: Sequence[SampleSpec]) -> list[VolumePhysics]:
        """The operators of all scanners in their order, of those not yet made from the first spec of each."""
        first = {spec.scanner: spec for spec in reversed(specs)}
        return [self._physics.get(p) or self.physics(p, first[p].make()) for p in sorted(first)]

    def is_known(self, scanner: int) -> bool:
        """Whether a scanner was fitted, here or in the store, and is undamaged."""
        if scanner not in self._known:
            try:
                kept = self.store.scanner(scanner), self.store.symmetries_of(scanner)
            except FileFormatError:
                return False
            self._known[scanner] = kept[0].to(self.device), kept[1]
        return True

    def factors(self, scanner: int) -> NormalFactors:
        """The fitted factors of a scanner that is known, on the device."""
        return self._known[scanner][0]

    def symmetries(self, scanner: int) -> Symmetries:
        """Those of the operator of a scanner that is known."""
        return self._known[scanner][1]


class SamplePool(Sequence[Sample]):
    """The samples that are ready, of ``n`` that are wanted: in memory where all take little of it, else read when used."""

    def __init__(self, store: SampleStore, n: int) -> None:
        self._store, self._n = store, n
        self._numbers: list[int] = []
        self._held: list[Sample | None] = []
        self._all_fit = False

    def add(self, number: int, sample: Sample) -> None:
        """One more is ready, and in the store under ``number``."""
        if not self._held:
            one = sum(values.nbytes for values in sample[0].values())
            self._all_fit = self._n * one < MEMORY_SHARE * psutil.virtual_memory().available
        self._numbers.append(number)
        self._held.append(sample if self._all_fit else None)

    def __len__(self) -> int:
        return len(self._held)

    def __getitem__(self, index: Any) -> Any:
        return self._held[index] or self._store.load(self._numbers[index])


def build(
    store: SampleStore,
    specs: Sequence[SampleSpec],
    make: Callable[[SampleSpec], Volumes],
    pool: SamplePool | None = None,
) -> Iterator[Progress | Warned]:
    """Put every sample into ``pool``, number i from spec i, and make those that the store lacks or that are damaged.

    One of every scanner comes first. Where it is stopped, what was made stays.
    """
    for k, i in enumerate(one_of_each_first(specs)):
        yield Progress(k, len(specs), BUILDING)
        sample = None
        try:
            sample = store.load(i) if i in store else None
        except FileFormatError:
            yield Warned(f"Training sample {i} is damaged; it is built again.")
        if sample is None:
            sample = make(specs[i]), specs[i].scanner
            store.add(*sample, i)
        if pool is not None:
            pool.add(i, sample)
        yield Progress(k + 1, len(specs), BUILDING)


def one_of_each_first(specs: Sequence[SampleSpec]) -> list[int]:
    """Numbers of the specs: the first one of every scanner, then the others in their order."""
    first = {spec.scanner: i for i, spec in reversed(list(enumerate(specs)))}
    return [*sorted(first.values()), *(i for i in range(len(specs)) if i not in first.values())]


def local_problems(operators: Operators, network: NetworkConfig) -> Callable[[SampleSpec], Volumes]:
    """How the samples of local problems are made."""

    def make(spec: SampleSpec) -> Volumes:
        scan = spec.make()
        physics = operators.physics(spec.scanner, scan)
        return build_sample(scan, physics, network, operators.factors(spec.scanner))

    return make


def clean_volumes(spec: SampleSpec) -> Volumes:
    """The sample of a denoiser; nothing is measured for it."""
    return build_clean_sample(spec.truth())
