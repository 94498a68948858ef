"""Training samples: pairs of volumes from which local problems are cut at random patches.

A sample holds the truth x* and the start x_0 (FDK, zero-filled or a short total-variation run) with their residual
images r* = Aᴴ(y − A x*) and r_0 = Aᴴ(y − A x_0). Both are affine in the estimate, so every context
x̂ = x* + β(x_0 − x*) has r̂ = r* + β(r_0 − r*): β = 0 is the context of the paper (truth), β = 1 is what the first
iteration on a whole volume sees. The projector runs when a sample is built and never in the training loop (Efficient
Unrolled Networks, sec. 4.1–4.3). Arrays live in a zarr store.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr

from napari_unroll.errors import ScanError
from napari_unroll.events import Box
from napari_unroll.methods.problem import Problem
from napari_unroll.methods.unrolled.network import UnrolledConfig
from napari_unroll.methods.unrolled.scale import intensity_scale
from napari_unroll.methods.unrolled.start import first_estimate, run_silently
from napari_unroll.normal.factors import NormalFactors
from napari_unroll.scan.scan import Scan

PARTS = ("truth", "start", "residual_truth", "residual_start")


@dataclass(frozen=True)
class Batch:
    """Local problems of one protocol: tensors (batch, 1, z, y, x) divided by each scan's intensity scale."""

    protocol: int
    boxes: list[Box]
    truth: torch.Tensor
    start: torch.Tensor
    residual_truth: torch.Tensor
    residual_start: torch.Tensor


def build_sample(scan: Scan, physics: Any, config: UnrolledConfig, factors: NormalFactors) -> dict[str, np.ndarray]:
    """The four volumes of a scan whose truth is known, each (z, y, x), divided by the start's intensity scale.

    ``config`` says how x_0 is made. Raises ScanError where the scan has no truth.
    """
    if scan.truth is None:
        raise ScanError(f"Training needs the true volume of every scan; {scan.name!r} has none.")
    y = torch.as_tensor(scan.measurements).to(physics.device)
    y = y[None] if scan.modality == "mri" else y[None, None]
    truth = torch.as_tensor(scan.truth).to(physics.device, physics.dtype)[None, None]
    start = run_silently(first_estimate(Problem(scan=scan, physics=physics, y=y, normal=factors), config))
    scale = intensity_scale(start)
    volumes = {
        "truth": truth,
        "start": start,
        "residual_truth": physics.A_adjoint(y - physics.A(truth)),
        "residual_start": physics.A_adjoint(y - physics.A(start)),
    }
    return {name: (v[0, 0] / scale).cpu().numpy() for name, v in volumes.items()}


class SampleStore:
    """A folder of samples (``samples.zarr``) and of their protocols' factors (``protocol-0.safetensors``, …)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._root = zarr.open_group(str(folder / "samples.zarr"), mode="a")

    def __len__(self) -> int:
        return len(list(self._root.group_keys()))

    def add(self, sample: dict[str, np.ndarray], protocol: int) -> None:
        """Append a sample of ``protocol``."""
        group = self._root.create_group(f"{len(self):05d}")
        for name in PARTS:
            group.create_array(name, data=sample[name], chunks=sample[name].shape)
        group.attrs["protocol"] = protocol

    def add_protocol(self, factors: NormalFactors, index: int) -> None:
        """Keep the fitted factors that all samples of protocol ``index`` share."""
        factors.save(self.folder / f"protocol-{index}.safetensors")

    def protocols(self) -> list[NormalFactors]:
        """The factors of every protocol."""
        n = len(list(self.folder.glob("protocol-*.safetensors")))
        return [NormalFactors.load(self.folder / f"protocol-{i}.safetensors") for i in range(n)]

    def load(self, index: int) -> tuple[dict[str, np.ndarray], int]:
        """Sample ``index`` and its protocol."""
        group: Any = self._root[f"{index:05d}"]
        return {name: np.asarray(group[name][:]) for name in PARTS}, int(group.attrs["protocol"])


class PatchSampler:
    """Draws batches of random patches, all of one protocol; holds the samples in memory."""

    def __init__(
        self, samples: Sequence[tuple[dict[str, np.ndarray], int]], patch_size: Sequence[int], seed: int
    ) -> None:
        if not samples:
            raise ScanError("There are no training samples; build some first.")
        self._samples = samples
        self._by_protocol: dict[int, list[int]] = {}
        for i, (_, protocol) in enumerate(samples):
            self._by_protocol.setdefault(protocol, []).append(i)
        self._patch_size = patch_size
        self.rng = np.random.default_rng(seed)

    def draw(self, batch_size: int, device: torch.device | str = "cpu") -> Batch:
        """A batch from a random protocol, patches at uniformly random places."""
        protocol = int(self.rng.choice(sorted(self._by_protocol)))
        chosen = self.rng.choice(self._by_protocol[protocol], batch_size)
        boxes = [self._random_box(self._samples[i][0]["truth"].shape) for i in chosen]
        parts = [self._stack(name, chosen, boxes, device) for name in PARTS]
        return Batch(protocol, boxes, *parts)

    def _stack(self, name: str, chosen: np.ndarray, boxes: list[Box], device: Any) -> torch.Tensor:
        cuts = [self._samples[i][0][name][box] for i, box in zip(chosen, boxes, strict=True)]
        return torch.from_numpy(np.stack(cuts)[:, None]).to(device)

    def _random_box(self, shape: Sequence[int]) -> Box:
        sides = [min(p, n) for p, n in zip(self._patch_size, shape, strict=True)]
        starts = [int(self.rng.integers(0, n - p + 1)) for p, n in zip(sides, shape, strict=True)]
        z, y, x = (slice(s, s + p) for s, p in zip(starts, sides, strict=True))
        return (z, y, x)
