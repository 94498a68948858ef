"""``napari-unroll train``: from choices to a plan, and the plan carried out under a progress bar."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from napari_unroll.cli.evaluate import numbers
from napari_unroll.cli.facts import print_facts
from napari_unroll.cli.progress import run_with_progress
from napari_unroll.errors import ParameterError
from napari_unroll.io.atomic import write_text
from napari_unroll.physics.build import choose_device
from napari_unroll.pipeline.params import build, parse_assignments, read_yaml, to_yaml
from napari_unroll.scan.scan import MODALITIES
from napari_unroll.training.dataset import DatasetSplit, split_dataset
from napari_unroll.training.plan import TrainingPlan
from napari_unroll.training.session import train
from napari_unroll.training.start_from import with_initial


def run_training(asked: Mapping[str, Any], sets: list[str], config: Path | None, out: Path, device: str) -> None:
    """Train what was asked for, over ``sets``, over the file; leaves the program with code 2 on a wrong plan."""
    plan, _ = with_initial(make_plan(asked, sets, config))
    chosen = str(choose_device(device))
    split = split_dataset(plan, chosen)
    print_facts(facts(plan, split, out, chosen))
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "plan.yaml", to_yaml(plan))
    finished = run_with_progress(lambda stop: train(plan, out, chosen, stop, split), f"training {plan.name}")
    typer.echo(f"Wrote {finished.result}; use it: napari-unroll reconstruct SCAN --weights {finished.result}")


def make_plan(asked: Mapping[str, Any], sets: list[str], config: Path | None) -> TrainingPlan:
    """The plan of a YAML file, changed by ``name=value`` (dots lead into records), changed by ``asked``."""
    values = {} if config is None else read_yaml(config)
    for name, value in parse_assignments(sets).items():
        _put(values, name.split("."), value)
    for name, value in asked.items():
        if value is not None:
            _put(values, name.split("."), value)
    return build(TrainingPlan, values, "The training plan")


def _put(values: dict[str, Any], path: list[str], value: Any) -> None:
    for key in path[:-1]:
        values = values.setdefault(key, {})
        if not isinstance(values, dict):
            raise ParameterError(f"{key!r} is one value; {'.'.join(path)!r} cannot be set in it.")
    values[path[-1]] = value


def parse_levels(text: str) -> list[float] | None:
    """``"30,50,100"`` as numbers; None where nothing was given."""
    return list(numbers(text)) if text else None


def facts(plan: TrainingPlan, split: DatasetSplit, out: Path, device: str) -> dict[str, Any]:
    """The plan in a few lines."""
    options = plan.options
    seconds = f"{options.max_seconds / 60:.3g} minutes" if options.max_seconds else "no time limit"
    return {
        "method": f"{plan.method}, {MODALITIES[plan.modality]}",
        "scanner": list(dict.fromkeys(split.scanners)),
        "objects": plan.scans or plan.volumes or "generated",
        "scans": f"{len(split.training)} for training, {len(split.held_out)} held out",
        "network": plan.network.title,
        "begins with": plan.initial or "random weights",
        "budget": f"{seconds}, at most {options.n_steps} steps of {options.batch_size} patches {options.patch_size}",
        "device": device,
        "folder": f"{out} (the same command goes on where it stopped)",
    }
