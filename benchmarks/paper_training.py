"""One training of a paper's table: in a process of its own, by the clock of the CPU, kept on disk."""

from __future__ import annotations

import json
import multiprocessing
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from napari_unroll.events import Finished
from napari_unroll.training import session, trainer
from napari_unroll.training.plan import TrainingPlan

Figures = dict[str, Any]


def trained(plan: TrainingPlan, folder: Path, threads: int) -> Figures:
    """Weights of one network, what its training cost and how long it took; runs in a process of its own.

    Seconds, ``max_seconds`` of the plan among them, are those of the CPU: what else the machine does changes no budget.
    """
    torch.set_num_threads(threads)
    trainer.time = session.time = SimpleNamespace(monotonic=time.process_time)  # type: ignore[assignment]
    path = folder / f"{plan.name}.safetensors"
    if not (folder / "finished").is_file():
        *_, last = session.train(plan, folder, "cpu")
        assert isinstance(last, Finished)
        if last.result is None:
            raise SystemExit(f"{folder}: {last.advice}")
        (folder / "finished").touch()
    log = [json.loads(line) for line in (folder / "training.log.jsonl").read_text().splitlines()]
    steps = [line for line in log if "seconds_per_step" in line]
    untrained, *validations = [line["psnr"] for line in log if "psnr" in line]
    return {
        "weights": str(path),
        "seconds": steps[-1]["seconds"],
        "steps": steps[-1]["step"],
        "seconds_per_step": statistics.median(line["seconds_per_step"] for line in steps),
        "memory_mib": max(line["peak_memory_bytes"] for line in steps) / 2**20,
        "psnr_untrained": untrained,
        "psnr": max(validations),
    }


def in_own_process(plan: TrainingPlan, folder: Path, threads: int) -> Figures:
    """From a process that has done nothing but imports before, so that its peak memory is its own."""
    how = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    with ProcessPoolExecutor(1, multiprocessing.get_context(how)) as pool:
        return pool.submit(trained, plan, folder, threads).result()
