"""Training samples: pairs of volumes from which local problems are cut at random patches.

A sample for local problems holds the truth x* and the start x_0 (FDK, zero-filled or a short total-variation run) with
their residual images r* = Aᴴ(y − A x*) and r_0 = Aᴴ(y − A x_0), from which the contexts of its local problems follow (see
``contexts``): the projector never runs in a step of the training loop (Efficient Unrolled Networks, sec. 4.1–4.3).
Flips and turns that commute with N, and a global phase of complex volumes, turn one
sample into several. Arrays live in a zarr store.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr

from napari_unroll.errors import FileFormatError, ScanError, UnrollError
from napari_unroll.events import Box, result_of
from napari_unroll.interrupt import check
from napari_unroll.io.atomic import replacing, write_text
from napari_unroll.io.checksums import digest, is_unchanged
from napari_unroll.methods.algorithms.network import USUAL_NOISE, NetworkConfig, noise_told
from napari_unroll.methods.problem import Problem, measured
from napari_unroll.methods.steps.scale import intensity_scale
from napari_unroll.methods.steps.start import first_estimate
from napari_unroll.normal import storage
from napari_unroll.normal.factors import NormalFactors
from napari_unroll.physics.volume_physics import VolumePhysics
from napari_unroll.scan.scan import Scan
from napari_unroll.training.contexts import NO_CONTEXTS, TRUE_CONTEXTS, Contexts, Volumes, noise_of
from napari_unroll.training.symmetries import IDENTITY, Symmetry

Sample = tuple[Volumes, int]
"""The volumes of a sample by name, and its scanner."""


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
    """Of every scan, relative to its brightest voxel: (batch, 1, 1, 1, 1)."""


def build_sample(scan: Scan, physics: VolumePhysics, network: NetworkConfig, factors: NormalFactors) -> Volumes:
    """truth, start and their residual images, each (z, y, x), divided by the start's intensity scale; and the noise that is told.

    ``network`` says how x_0 is made. Raises ScanError where the scan has no truth.
    """
    y = measured(scan, physics.device)
    truth = torch.as_tensor(true_volume(scan)).to(physics.device, physics.dtype)[None, None]
    problem = Problem(scan=scan, physics=physics, y=y, normal=factors)
    start = result_of(first_estimate(problem, network.start_iterations, network.follows_noise))
    volumes = {
        "truth": truth,
        "start": start,
        "residual_truth": physics.A_adjoint(y - physics.A(truth)),
        "residual_start": physics.A_adjoint(y - physics.A(start)),
    }
    return _scaled(volumes, intensity_scale(start)) | {"noise": np.array(noise_told(network, scan), np.float32)}


def build_clean_sample(truth: np.ndarray) -> Volumes:
    """The truth alone (z, y, x), divided by its intensity scale."""
    volume = torch.from_numpy(np.ascontiguousarray(truth))[None, None]
    return _scaled({"truth": volume}, intensity_scale(volume))


def true_volume(scan: Scan) -> np.ndarray:
    """The truth of a scan. Raises ScanError where it has none."""
    if scan.truth is None:
        raise ScanError(f"Training needs the true volume of every scan; {scan.name!r} has none.")
    return scan.truth


def _scaled(volumes: dict[str, torch.Tensor], scale: float) -> Volumes:
    return {name: (v[0, 0] / scale).cpu().numpy() for name, v in volumes.items()}


class SampleStore:
    """A folder of samples (``samples.zarr``), of their scanners' factors and of the symmetries of these.

    Samples appear under their number only when complete, so that a killed build can go on.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        zarr.open_group(str(folder / "samples.zarr"), mode="a")

    def __len__(self) -> int:
        return sum(p.name.isdigit() for p in (self.folder / "samples.zarr").iterdir())

    def __contains__(self, index: int) -> bool:
        return self._path(index).is_dir()

    def _path(self, index: int) -> Path:
        return self.folder / "samples.zarr" / f"{index:05d}"

    def add(self, sample: Volumes, scanner: int, index: int | None = None) -> None:
        """Keep a sample of ``scanner`` under ``index``, or after the others."""
        with replacing(self._path(len(self) if index is None else index), overwrite=True) as temporary:
            group = zarr.open_group(
                str(temporary), mode="w", attributes={"scanner": scanner, "sha256": digest(scanner, sample)}
            )
            for name, values in sample.items():
                group.create_array(name, data=values, chunks=values.shape)

    def load(self, index: int) -> Sample:
        """Sample ``index`` and its scanner. Raises FileFormatError where it is damaged."""
        check()
        try:
            group: Any = zarr.open_group(str(self._path(index)), mode="r")
            volumes = {name: np.asarray(array[...]) for name, array in sorted(group.arrays())}
            scanner = int(group.attrs["scanner"])
            if not is_unchanged(group.attrs.get("sha256"), scanner, volumes):
                raise ValueError("what was read is not what was written")
        except UnrollError:
            raise
        except Exception as error:  # of zarr and its codecs
            raise FileFormatError(f"Sample {index} in {self.folder} is damaged; remove {self._path(index)}.") from error
        return volumes, scanner

    def add_scanner(self, factors: NormalFactors, index: int, symmetries: Sequence[Symmetry] = (IDENTITY,)) -> None:
        """Keep the fitted factors that all samples of scanner ``index`` share, and the symmetries of its operator."""
        write_text(
            self.folder / f"scanner-{index}.json",
            json.dumps({"symmetries": symmetries, "sha256": digest(symmetries, {})}),
        )
        storage.save(factors, self.folder / f"scanner-{index}.safetensors")

    def scanner(self, index: int) -> NormalFactors:
        """The factors of scanner ``index``."""
        return storage.load(self.folder / f"scanner-{index}.safetensors")

    def scanners(self) -> list[NormalFactors]:
        """The factors of every scanner."""
        n = len(list(self.folder.glob("scanner-*.safetensors")))
        return [self.scanner(i) for i in range(n)]

    def symmetries(self) -> list[tuple[Symmetry, ...]]:
        """The symmetries of every scanner's operator."""
        n = len(list(self.folder.glob("scanner-*.safetensors")))
        return [self.symmetries_of(i) for i in range(n)]

    def symmetries_of(self, index: int) -> tuple[Symmetry, ...]:
        """The symmetries of the operator of scanner ``index``. Raises FileFormatError where they are damaged."""
        path = self.folder / f"scanner-{index}.json"
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
            if not is_unchanged(kept.get("sha256"), kept["symmetries"], {}):
                raise ValueError("what was read is not what was written")
            return tuple(Symmetry(tuple(axes), tuple(flips)) for axes, flips in kept["symmetries"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise FileFormatError(f"{path} is damaged ({error}); the scanner is fitted again.") from error


class PatchSampler:
    """Draws batches of random patches, all of one scanner, from the samples that there are; they may become more.

    ``symmetries`` are those of each scanner; without them samples are used as they are. Complex samples also get a
    random global phase then.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        patch_size: Sequence[int],
        seed: int,
        symmetries: Sequence[Sequence[Symmetry]] | None = None,
    ) -> None:
        self._samples = samples
        self._by_scanner: dict[int, list[int]] = {}
        self._n_known = 0
        self._patch_size = patch_size
        self._symmetries = symmetries
        self._open: dict[tuple[int, int], _Visit] = {}
        self.rng = np.random.default_rng(seed)

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
            volumes, _ = self._samples[int(self.rng.choice(self._by_scanner[scanner]))]
            estimates, residuals = contexts.make(volumes, scanner)
            known = [volumes[name] for name in ("truth", "start") if name in volumes]
            noise = noise_of(volumes)
            visit = _Visit([*known, *estimates, *residuals], contexts.uses, noise)
            self._open[scanner, place] = visit
        visit.left -= 1
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


@dataclass
class _Visit:
    """Truth, start, contexts and residuals of a sample, how many patches may still be cut from them, and the scan's noise."""

    volumes: list[np.ndarray]
    left: int
    noise: float
