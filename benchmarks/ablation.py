"""What partitioning and the approximated normal operator cost and save in training, each alone: the paper's ablation.

    python benchmarks/ablation.py [--quick] [--steps N | --minutes M] [--size 64] [--views 30] [--out benchmarks/results]

The same small network is trained from the same seed for the same number of steps on the same generated cone-beam scans:
*global* (the patch is the whole volume, AᴴA in the loop), *partitioned* (patches of half the edge, AᴴA restricted to
the patch in the loop) and *partitioned + approximated* (Ñ restricted to the patch; the context is the truth, as in the paper); then
a sweep over patch sizes with the approximation (paper, appendix C.1). Each network reconstructs whole held-out
scans by the ordinary ``run``. Every training has a process of its own, so that its peak memory is its own. ``--minutes``
chooses the steps such that the global training takes about that long. Writes ablation.json and ablation.md.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from napari_unroll.environment import PeakMemory, machine, software
from napari_unroll.events import Finished
from napari_unroll.io.atomic import write_text
from napari_unroll.io.scan_file import write_scan
from napari_unroll.methods.algorithms.network import NetworkConfig
from napari_unroll.methods.networks.drunet import DRUNetConfig
from napari_unroll.methods.steps.gradient import GradientStepConfig
from napari_unroll.methods.weights import save_network
from napari_unroll.normal.factors import NormalFactors
from napari_unroll.normal.fit import FitOptions, fit_now
from napari_unroll.physics.build import build_physics
from napari_unroll.physics.samples import cone_beam_setup
from napari_unroll.physics.simulate import simulate_ct
from napari_unroll.pipeline.metrics import psnr, ssim
from napari_unroll.pipeline.plan import Choices, resolve
from napari_unroll.pipeline.run import run
from napari_unroll.pipeline.sources import open_scan
from napari_unroll.pipeline.summary import paragraph
from napari_unroll.scan.phantoms import HELD_OUT_SEED, random_volume
from napari_unroll.scan.scan import Scan
from napari_unroll.training.options import TrainOptions
from napari_unroll.training.sampler import PatchSampler
from napari_unroll.training.samples import SampleStore, build_sample
from napari_unroll.training.tasks.patch import PatchTask
from napari_unroll.training.trainer import Trainer, new_network

FIRST_HELD_OUT = HELD_OUT_SEED + 700
Partition = Literal["approximated", "exact", "global"]
GLOBAL, PARTITIONED, APPROXIMATED = "global", "partitioned", "partitioned + approximated"


@dataclass(frozen=True)
class Setting:
    """What all trainings of one ablation share."""

    size: int = 64
    views: int = 30
    steps: int = 120
    objects: int = 8
    held_out: int = 3
    channels: tuple[int, int, int, int] = (8, 16, 32, 64)
    n_iterations: int = 3
    start_iterations: int = 10
    batch_size: int = 1
    learning_rate: float = 2e-3
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    device: str = "cpu"
    threads: int = 1

    @property
    def config(self) -> NetworkConfig:
        """The network."""
        return NetworkConfig(
            prior=DRUNetConfig(channels=self.channels),
            n_iterations=self.n_iterations,
            data_step=GradientStepConfig(preconditioner=0.2),
            start_iterations=self.start_iterations,
        )

    def scan(self, seed: int) -> Scan:
        """Generated object ``seed``, projected on a grid twice as fine."""
        geometry, grid = cone_beam_setup(self.size, self.views)
        volume = random_volume((2 * self.size,) * 3, seed)
        return simulate_ct(volume, geometry, grid, seed=seed)

    def options(self, patch: int, partition: Partition) -> TrainOptions:
        """The training; loss and schedule are the shipped ones, the context is the truth as in the paper."""
        return TrainOptions(
            n_steps=self.steps, batch_size=self.batch_size, patch_size=(patch,) * 3, partition=partition, warmup=self.steps // 20,
            learning_rate=self.learning_rate, ema=0.98, precision=self.precision, log_every=10**6, validate_every=10**6,
        )  # fmt: skip


QUICK = Setting(size=24, views=12, steps=4, objects=2, held_out=1, channels=(4, 4, 4, 4))


@dataclass(frozen=True)
class Variant:
    """One training: its name, the edge of its patches, and which operator is in the loop."""

    name: str
    patch: int
    partition: Partition


def variants(size: int) -> list[Variant]:
    """The ablation, then the sweep over patch sizes; the shipped way belongs to both."""
    ablation = [Variant(GLOBAL, size, "global"), Variant(PARTITIONED, size // 2, "exact")]
    sweep = [Variant(APPROXIMATED, edge, "approximated") for edge in (size // 2, size // 4, 3 * size // 4, size)]
    return ablation + sweep


def train(setting: Setting, variant: Variant, folder: Path) -> dict[str, float]:
    """Train on the samples of ``folder``; leaves network.safetensors and returns what it cost."""
    store = SampleStore(folder)
    sampler = PatchSampler([store.load(i) for i in range(len(store))], (variant.patch,) * 3, seed=0)
    physics = () if variant.partition == "approximated" else [build_physics(setting.scan(0), setting.device)]
    options = setting.options(variant.patch, variant.partition)
    task = PatchTask(sampler, store.scanners(), options, physics, setting.device)
    trainer = Trainer(new_network(setting.config, options.seed), task, options, device=setting.device)
    begun, cpu = time.perf_counter(), time.process_time()
    with PeakMemory(setting.device) as peak:
        *_, finished = trainer.run()
    assert isinstance(finished, Finished)
    costs = {
        "seconds_per_step": (time.perf_counter() - begun) / setting.steps,
        "cpu_seconds_per_step": (time.process_time() - cpu) / setting.steps,
        "peak_memory_mib": peak.n_bytes / 2**20,
    }
    save_network(finished.result, folder / "network.safetensors", "unrolled-pgd")
    return costs


def quality(setting: Setting, folder: Path) -> dict[str, Any]:
    """Mean PSNR and SSIM on the held-out scans, and the PSNR of the start that every network improves on."""
    network = Choices(method="unrolled-pgd", weights=str(folder / "network.safetensors"))
    start = Choices(method="tv-fista", params={"n_iterations": setting.start_iterations, "tolerance": 0.0})
    factors = SampleStore(folder).scanners()[0]
    rows = []
    for path in sorted(folder.glob("held-out-*.h5")):
        scan = open_scan(str(path))
        x, x0 = (_reconstruct(choices, setting.device, scan, factors) for choices in (network, start))
        truth = np.asarray(scan.truth)
        rows.append({"psnr": psnr(x, truth), "ssim": ssim(x, truth), "psnr_start": psnr(x0, truth)})
    return {name: statistics.fmean(row[name] for row in rows) for name in rows[0]}


def _reconstruct(choices: Choices, device: str, scan: Scan, factors: NormalFactors) -> np.ndarray:
    """The ordinary whole reconstruction, networks in single precision."""
    plan = resolve(choices.model_copy(update={"device": device, "precision": "float32"}), scan)
    *_, finished = run(plan, scan, factors=factors)
    assert isinstance(finished, Finished)
    if finished.result is None:
        raise SystemExit(finished.advice)
    return np.asarray(finished.result)


def spec(setting: Setting, variant: Variant, folder: Path) -> dict[str, Any]:
    """One row: train, then evaluate."""
    torch.set_num_threads(setting.threads)
    return asdict(variant) | train(setting, variant, folder) | quality(setting, folder)


def in_own_process(setting: Setting, variant: Variant, folder: Path) -> dict[str, Any]:
    """One row, from a process that has done nothing but imports before (where the system can fork a clean one)."""
    how = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    with ProcessPoolExecutor(1, multiprocessing.get_context(how)) as pool:
        return pool.submit(spec, setting, variant, folder).result()


def prepare(setting: Setting, folder: Path) -> None:
    """Training samples of the first seeds, and held-out scans."""
    store = SampleStore(folder)
    physics = build_physics(setting.scan(0), setting.device)
    factors = fit_now(physics, FitOptions(n_test=0))
    store.add_scanner(factors, 0)
    for seed in range(setting.objects):
        store.add(build_sample(setting.scan(seed), physics, setting.config, factors), 0)
    for i in range(setting.held_out):
        write_scan(folder / f"held-out-{i}.h5", setting.scan(FIRST_HELD_OUT + i))


def ablate(setting: Setting, minutes: float | None, out: Path, folder: Path) -> None:
    """Trainings one after the other, and both files after each of them."""
    prepare(setting, folder)
    chosen = variants(setting.size)
    if minutes is not None:
        trial = in_own_process(replace(setting, steps=3), chosen[0], folder)
        setting = replace(setting, steps=max(3, round(60 * minutes / trial["seconds_per_step"])))
    rows: list[dict[str, Any]] = []
    for variant in chosen:
        rows.append(in_own_process(setting, variant, folder))
        print(json.dumps(rows[-1]), flush=True)
        report = {"setting": asdict(setting), "machine": machine(), "software": software(), "rows": rows}
        write_text(out / "ablation.json", json.dumps(report, indent=2) + "\n")
        write_text(out / "ablation.md", page(setting, rows))


def page(setting: Setting, rows: Sequence[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    about = (
        f"Written by `python benchmarks/ablation.py`. Cone beam, {setting.size}³ voxels, {setting.views} views. Every network "
        f"(K = {setting.n_iterations}, channels {setting.channels}) saw {setting.steps} steps of {setting.batch_size} patch of "
        f"{setting.objects} generated objects, {setting.precision}. PSNR and SSIM are means over {setting.held_out} whole held-out "
        f"scans (seeds from {FIRST_HELD_OUT}); the start, {setting.start_iterations} steps of total variation, has "
        f"{rows[0]['psnr_start']:.2f} dB. Memory is the growth of the training process (on CUDA what torch allocated)."
    )
    lines = [
        "# Ablation: partitioning and the approximated normal operator", "", paragraph(about), "",
        "| training | patch | PSNR / dB | SSIM | peak memory / MiB | CPU s per step | against global |",
        "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    lines += [_line(row, rows[0]) for row in rows]
    return "\n".join([*lines, "", paragraph(f"Machine: {machine()}. Made with {_versions()}."), ""])


def _line(row: dict[str, Any], whole: dict[str, Any]) -> str:
    memory = row["peak_memory_mib"] / whole["peak_memory_mib"]
    time_ = row["cpu_seconds_per_step"] / whole["cpu_seconds_per_step"]
    against = f"{row['psnr'] - whole['psnr']:+.2f} dB, memory × {memory:.2f}, time × {time_:.2f}"
    return (
        f"| {row['name']} | {row['patch']}³ | {row['psnr']:.2f} | {row['ssim']:.3f} | {row['peak_memory_mib']:.0f} "
        f"| {row['cpu_seconds_per_step']:.2f} | {'' if row is whole else against} |"
    )


def _versions() -> str:
    return ", ".join(f"{k} {v}" for k, v in software().items())


def main() -> None:
    """Parse, then the whole ablation, or one training of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="a minute: shows that everything runs, not what it is worth"
    )
    parser.add_argument("--steps", type=int, help="optimiser steps of every training")
    parser.add_argument("--minutes", type=float, help="steps from this time for the global training")
    parser.add_argument("--size", type=int, help="voxels along an edge")
    parser.add_argument("--views", type=int, help="projections of every scan")
    parser.add_argument("--batch-size", type=int, help="patches per step")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent / "results")
    given = parser.parse_args()
    asked = {k: getattr(given, k) for k in ("steps", "size", "views", "batch_size", "device")}
    setting = replace(QUICK if given.quick else Setting(), **{k: v for k, v in asked.items() if v is not None})
    given.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        ablate(setting, given.minutes, given.out, Path(folder))


if __name__ == "__main__":
    main()
