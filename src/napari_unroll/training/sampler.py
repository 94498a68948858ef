"""Batches of local problems: random patches of samples, with what the network is told of everything around them.

Volumes whose contexts were costly to make serve for several patches. They are kept in files meanwhile, so that a training that
was killed goes on with the same ones.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_unroll.errors import ScanError
from napari_unroll.events import Box
from napari_unroll.io.sealed import read_sealed, write_sealed
from napari_unroll.methods.algorithms.network import USUAL_NOISE
from napari_unroll.training.contexts import NO_CONTEXTS, TRUE_CONTEXTS, Contexts, noise_of
from napari_unroll.training.samples import Sample
from napari_unroll.training.symmetries import Symmetry

MARK = b"napari-unroll visit\n"
"""How a file of open volumes begins; then come its SHA-256 and what torch saved."""


@dataclass(frozen=True)
class Batch:
    """Local problems of one scanner: tensors (batch, 1, z, y, x) divided by each scan's intensity scale.

    ``contexts`` and ``residuals`` hold one tensor per iteration; the last one stands for all later iterations.
    """

    scanner: int
    boxes: list[Box]
    truth: torch.Tensor
    start: torch.Tensor
    contexts: list[torch.Tensor]
    residuals: list[torch.Tensor]
    noise: torch.Tensor | float = USUAL_NOISE
    """Of every scan, as networks are told it: (batch, 1, 1, 1, 1)."""


@dataclass
class _Visit:
    """Truth, start, contexts and residuals of a sample, the scan's noise, and how many patches may still be cut from them.

    ``number`` is that of its file.
    """

    volumes: list[np.ndarray]
    noise: float
    left: int
    number: int


class VisitFiles:
    """Volumes with their contexts, one file ``<number>.visit`` each, for as long as a state may name them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._named: set[int] = set()

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:08d}.visit"

    def write(self, visit: _Visit) -> None:
        """Keep the volumes."""
        self.folder.mkdir(parents=True, exist_ok=True)
        volumes = [torch.from_numpy(values) for values in visit.volumes]
        write_sealed(self._path(visit.number), MARK, {"volumes": volumes, "noise": visit.noise})

    def read(self, number: int, left: int) -> _Visit | None:
        """The visit, or None where its file is missing or damaged."""
        self._named.add(number)
        kept = read_sealed(self._path(number), MARK)
        if kept is None:
            return None
        return _Visit([values.numpy() for values in kept["volumes"]], float(kept["noise"]), left, number)

    def keep(self, numbers: Iterable[int]) -> None:
        """Remove what neither these nor those of the last call name."""
        now = set(numbers)
        names = {self._path(number).name for number in now | self._named}
        for path in self.folder.glob("*.visit"):
            if path.name not in names:
                path.unlink(missing_ok=True)
        self._named = now


class PatchSampler:
    """Draws batches of random patches, all of one scanner, from the samples that there are; they may become more.

    ``symmetries`` are those of each scanner; without them samples are used as they are. Complex samples also get a
    random global phase then. Volumes that serve for several patches are kept in ``files``; without it a state names none.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        patch_size: Sequence[int],
        seed: int,
        symmetries: Sequence[Sequence[Symmetry]] | None = None,
        files: VisitFiles | None = None,
    ) -> None:
        self._samples = samples
        self._by_scanner: dict[int, list[int]] = {}
        self._n_known = 0
        self._patch_size = patch_size
        self._symmetries = symmetries
        self._open: dict[tuple[int, int], _Visit] = {}
        self._files = files
        self._n_visits = 0
        self.rng = np.random.default_rng(seed)

    def state_dict(self) -> dict[str, Any]:
        """What a training goes on from: random numbers, and which volumes are open. Files of others are removed."""
        state = {"rng": json.dumps(self.rng.bit_generator.state), "n_visits": self._n_visits}
        if self._files is None:
            return state
        is_open = {place: visit for place, visit in self._open.items() if visit.left}
        self._files.keep(visit.number for visit in is_open.values())
        return state | {"open": [(*place, visit.number, visit.left) for place, visit in is_open.items()]}

    def load_state_dict(self, state: Mapping[str, Any]) -> int:
        """Go on from ``state``; returns how many open volumes were lost, for which others will be drawn."""
        self.rng.bit_generator.state = json.loads(state["rng"])
        self._n_visits = int(state.get("n_visits", 0))
        self._open.clear()
        named = state.get("open", ())
        for scanner, place, number, left in named:
            visit = self._files.read(number, left) if self._files else None
            if visit is not None:
                self._open[scanner, place] = visit
        return len(named) - len(self._open)

    def draw(self, batch_size: int, device: torch.device | str = "cpu", contexts: Contexts = TRUE_CONTEXTS) -> Batch:
        """A batch from a random scanner, patches at uniformly random places."""
        scanner, boxes, noise, (truth, start, *rest) = self._draw(batch_size, device, contexts)
        return Batch(scanner, boxes, truth, start, rest[: len(rest) // 2], rest[len(rest) // 2 :], noise)

    def draw_clean(self, batch_size: int, device: torch.device | str = "cpu") -> torch.Tensor:
        """Patches of true volumes alone, (batch, 1, z, y, x)."""
        _, _, _, (truth,) = self._draw(batch_size, device, NO_CONTEXTS)
        return truth

    def _draw(
        self, batch_size: int, device: torch.device | str, contexts: Contexts
    ) -> tuple[int, list[Box], torch.Tensor, list[torch.Tensor]]:
        self._look_for_more()
        scanner = int(self.rng.choice(sorted(self._by_scanner)))
        boxes, cuts, noise = [], [], []
        for _ in range(batch_size):
            visit = self._visit(scanner, contexts)
            noise.append(visit.noise)
            box, patch = self._patch(visit.volumes, scanner)
            boxes.append(box)
            # a copy: numpy calls a flipped axis of one voxel contiguous, torch does not
            cuts.append([torch.from_numpy(values.copy()) for values in patch])
        told = torch.tensor(noise, dtype=torch.float32, device=device).reshape(-1, 1, 1, 1, 1)
        return scanner, boxes, told, [torch.stack(parts)[:, None].to(device) for parts in zip(*cuts, strict=True)]

    def _look_for_more(self) -> None:
        """Samples that came since the last batch. Raises ScanError where there are none at all."""
        for i in range(self._n_known, len(self._samples)):
            self._by_scanner.setdefault(self._samples[i][1], []).append(i)
        self._n_known = len(self._samples)
        if not self._n_known:
            raise ScanError("There are no training samples; build some first.")

    def _visit(self, scanner: int, contexts: Contexts) -> _Visit:
        """One of the open samples, or of a new one where it was used up."""
        place = int(self.rng.integers(contexts.n_open))
        visit = self._open.get((scanner, place))
        if visit is None or visit.left < 1:
            visit = self._open[scanner, place] = self._new_visit(scanner, contexts)
        visit.left -= 1
        return visit

    def _new_visit(self, scanner: int, contexts: Contexts) -> _Visit:
        volumes, _ = self._samples[int(self.rng.choice(self._by_scanner[scanner]))]
        estimates, residuals = contexts.make(volumes, scanner)
        known = [volumes[name] for name in ("truth", "start") if name in volumes]
        self._n_visits += 1
        visit = _Visit([*known, *estimates, *residuals], noise_of(volumes), contexts.uses, self._n_visits)
        if self._files is not None and contexts.uses > 1:
            self._files.write(visit)
        return visit

    def _patch(self, volumes: Sequence[np.ndarray], scanner: int) -> tuple[Box, list[np.ndarray]]:
        """A random box of the volumes, all turned alike."""
        box = self._random_box(volumes[0].shape)
        if self._symmetries is None:
            return box, [v[box] for v in volumes]
        known = self._symmetries[scanner]
        turn = known[int(self.rng.integers(len(known)))]
        patch = [turn.apply(v)[box] for v in volumes]
        if volumes[0].dtype.kind == "c":
            phase = np.complex64(np.exp(2j * np.pi * self.rng.random()))
            patch = [phase * values for values in patch]
        return box, patch

    def _random_box(self, shape: Sequence[int]) -> Box:
        sides = [min(p, n) for p, n in zip(self._patch_size, shape, strict=True)]
        starts = [int(self.rng.integers(0, n - p + 1)) for p, n in zip(sides, shape, strict=True)]
        z, y, x = (slice(s, s + p) for s, p in zip(starts, sides, strict=True))
        return (z, y, x)
