"""Training samples: the volumes that local problems are cut from, and their store.

A sample for local problems holds the truth x* and the start x_0 (FDK, zero-filled or a short total-variation run) with
their residual images r* = Aᴴ(y − A x*) and r_0 = Aᴴ(y − A x_0), from which the contexts of its local problems follow (see
``contexts``): the projector never runs in a step of the training loop (Efficient Unrolled Networks, sec. 4.1–4.3).
Flips and turns that commute with N, and a global phase of complex volumes, turn one
sample into several. Arrays live in a zarr store.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr

from napari_unroll.errors import FileFormatError, ScanError, UnrollError
from napari_unroll.events import result_of
from napari_unroll.interrupt import check
from napari_unroll.io.atomic import replacing, write_text
from napari_unroll.io.checksums import digest, is_unchanged
from napari_unroll.methods.algorithms.network import MOST_NOISE, NetworkConfig, noise_told
from napari_unroll.methods.problem import Problem, measured
from napari_unroll.methods.steps.scale import intensity_scale
from napari_unroll.methods.steps.start import first_estimate
from napari_unroll.normal import storage
from napari_unroll.normal.factors import NormalFactors
from napari_unroll.physics.volume_physics import VolumePhysics
from napari_unroll.scan.kspace_noise import noise_energy
from napari_unroll.scan.scan import Scan
from napari_unroll.training.contexts import Volumes
from napari_unroll.training.symmetries import IDENTITY, Symmetry

Sample = tuple[Volumes, int]
"""The volumes of a sample by name, and its scanner."""


def build_sample(scan: Scan, physics: VolumePhysics, network: NetworkConfig, factors: NormalFactors) -> Volumes:
    """truth, start and their residual images, each (z, y, x), divided by the start's intensity scale; and the noise that is told.

    ``network`` says how x_0 is made. Raises ScanError where the scan has no truth.
    """
    y = measured(scan, physics.device)
    truth = torch.as_tensor(true_volume(scan)).to(physics.device, physics.dtype)[None, None]
    problem = Problem(scan=scan, physics=physics, y=y, normal=factors)
    start = result_of(first_estimate(problem, network.start_iterations, network.follows_noise))
    noise = y - physics.A(truth)
    volumes = {
        "truth": truth,
        "start": start,
        "residual_truth": physics.A_adjoint(noise),
        "residual_start": physics.A_adjoint(y - physics.A(start)),
    }
    scale = intensity_scale(start)
    known = _known_noise(network, scan, noise, scale)
    return _scaled(volumes, scale) | {"noise": np.array(known, np.float32)}


def _known_noise(network: NetworkConfig, scan: Scan, noise: torch.Tensor, scale: float) -> float:
    """What a network is told, with the ``noise`` that k-space is known to have in training, errors of its coil maps among it.

    K-space itself often tells a limit only, from which nothing is learned (docs/decisions/noise_known.md); X-rays tell their
    photons, while what the truth leaves of them holds more than noise.
    """
    if scan.modality != "mri" or not network.follows_noise:
        return noise_told(network, scan, scale)
    return min(MOST_NOISE, float(noise.norm()) / math.sqrt(noise_energy(scan, 1.0)) / scale)


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
