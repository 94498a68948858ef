"""The vocabulary of long work: what a generator tells whoever listens.

Every long computation (a fit, a reconstruction, a training) is a plain generator of these
events. They carry plain arrays, slices and numbers; they know nothing of Qt, napari or a
terminal. This module imports nothing of the project.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

Box = tuple[slice, slice, slice]
"""A cuboid of voxels: slices along z, y, x with plain integer starts and stops."""


def whole(shape: tuple[int, int, int]) -> Box:
    """The box of a whole volume."""
    z, y, x = (slice(0, n) for n in shape)
    return z, y, x


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


class Outcome(enum.StrEnum):
    """How a run ended."""

    COMPLETED = "completed"
    FINISHED_EARLY = "finished early"
    CANCELLED = "cancelled"
    FAILED = "failed"


@dataclass(frozen=True)
class Started:
    """Work begins: its name, the number of steps (0 if unknown) and, where there will be one, the volume's shape."""

    what: str
    n_steps: int = 0
    shape: tuple[int, int, int] | None = None


@dataclass(frozen=True)
class Progress:
    """``step`` of ``n_steps`` of the whole run is done; ``text`` names the present stage."""

    step: int
    n_steps: int
    text: str = ""


@dataclass(frozen=True)
class Forecast:
    """Of a whole run: its present stage in words, the share that is done, and the seconds left over all stages, if known."""

    text: str
    share: float
    left_s: float | None = None


@dataclass(frozen=True)
class PatchDone:
    """``values`` are final for this pass inside ``box``: a viewer may show them at once.

    ``values`` has axes (z, y, x), real float32 or complex64, and the shape of ``box``.
    ``consistency`` is the patch's relative distance from the data where it is known.
    """

    box: Box
    values: np.ndarray
    consistency: float | None = None


@dataclass(frozen=True)
class QuickLook:
    """``values`` (z, y, x) inside ``box`` are a rough picture, shown until the method has one of its own; never a result."""

    box: Box
    values: np.ndarray


@dataclass(frozen=True)
class IterationDone:
    """An iteration of the whole volume is done.

    ``values`` (z, y, x) is the present estimate, or None where showing it would cost a copy;
    ``residual`` is ‖A x − y‖ / ‖y‖ where the method has it; ``metrics`` any further numbers.
    """

    iteration: int
    n_iterations: int
    residual: float | None = None
    values: np.ndarray | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Pictures:
    """Slices to look at while a network learns: ``images`` (y, x) by name ("truth", "before", "after") at ``step``."""

    step: int
    images: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Measured:
    """Figures by name, as plain values, and the first of them in words: of a reconstruction, or what a run found."""

    row: Mapping[str, Any]
    text: str


@dataclass(frozen=True)
class FixedPoint:
    """How far the search for a fixed point z = f(z) has come: in words, in figures, and patch by patch.

    ``maps`` hold one value per patch, (z, y, x) of the patch grid, by name; along each axis the patches are told apart at
    ``edges``: voxels where one begins, and the volume's end.
    """

    text: str
    converged: bool
    figures: Mapping[str, float | None] = field(default_factory=dict)
    maps: Mapping[str, np.ndarray] = field(default_factory=dict)
    edges: tuple[tuple[int, ...], ...] = ()

    def spread(self, name: str, step: int = 1) -> np.ndarray:
        """A map on the volume's grid, float32 (z, y, x); on every ``step``-th voxel of it."""
        axes = []
        for edges in self.edges:
            voxels = np.arange(0, edges[-1], step)
            axes.append(np.searchsorted(edges[1:-1], np.minimum(voxels + step // 2, edges[-1] - 1), side="right"))
        return self.maps[name][np.ix_(*axes)].astype(np.float32)

    def inside(self, box: Box) -> FixedPoint:
        """The same for a region of the volume."""
        cut = (
            tuple(min(max(e - b.start, 0), b.stop - b.start) for e in es)
            for es, b in zip(self.edges, box, strict=False)
        )
        return replace(self, edges=tuple(cut))


@dataclass(frozen=True)
class Warned:
    """Something the user should know; the work goes on."""

    text: str


@dataclass(frozen=True)
class Finished:
    """The last event of every run.

    ``result`` is what the work made (a volume as an array (z, y, x), fitted factors, a
    checkpoint path), None when nothing usable exists; ``advice`` says in words what happened and
    what the user may do next; ``history`` is the residual history of iterative methods,
    ``fixed_point`` how the search for one went, ``found`` what the method measured of itself, by name.
    """

    outcome: Outcome
    result: Any = None
    advice: str = ""
    seconds: float = 0.0
    history: tuple[float, ...] = ()
    fixed_point: FixedPoint | None = None
    found: Mapping[str, Any] = field(default_factory=dict)


Event = (
    Started
    | Progress
    | Forecast
    | PatchDone
    | QuickLook
    | IterationDone
    | FixedPoint
    | Pictures
    | Measured
    | Warned
    | Finished
)


T = TypeVar("T")


def result_of(work: Generator[Any, None, T]) -> T:
    """The value that a generator of events returns, its events unheard."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value


def map_events(work: Generator[Event, None, T], retell: Callable[[Event], Event | None]) -> Generator[Event, None, T]:
    """The same work with every event as ``retell`` tells it; None keeps it silent. Returns what the work returns."""
    try:
        while True:
            event = retell(next(work))
            if event is not None:
                yield event
    except StopIteration as end:
        return end.value


class Stop:
    """A token shared by a run and its listener: the listener asks, the run looks between steps.

    ``cancel()`` gives the work up; ``finish()`` asks for the best result that exists now.
    Plain attribute writes, safe from any thread.
    """

    def __init__(self) -> None:
        self.cancelled = False
        self.finish_now = False

    @property
    def asked(self) -> bool:
        """Whether anything was asked for."""
        return self.cancelled or self.finish_now

    def cancel(self) -> None:
        """Ask the run to end without a result."""
        self.cancelled = True

    def finish(self) -> None:
        """Ask the run to end soon with what it has."""
        self.finish_now = True
