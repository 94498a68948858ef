"""From a plan to the scans that it asks for: every training and held-out scan as a spec that makes it.

Nothing is simulated here; specs do that when they are called. Knows nothing of networks and training loops.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from napari_unroll.errors import FileFormatError, ParameterError, ScanError
from napari_unroll.interrupt import stage
from napari_unroll.io.any_volume import volume_files
from napari_unroll.io.guards import file_hash
from napari_unroll.io.registry import read
from napari_unroll.scan.geometry import fingerprint
from napari_unroll.scan.resample import block_mean
from napari_unroll.scan.scan import MODALITIES, Scan
from napari_unroll.training.objects import FIRST_HELD_OUT, Objects, from_folder, generated
from napari_unroll.training.plan import TrainingPlan
from napari_unroll.training.samples import true_volume
from napari_unroll.training.scanners import (
    Scanner,
    cone_beam_scanner,
    image_scanner,
    measured_scanner,
    multi_coil_scanner,
)
from napari_unroll.training.sections import sections
from napari_unroll.training.variety_ct import drawn_xray_scanner
from napari_unroll.training.variety_mri import DrawnCoilScanner

MRI_SETUPS = 4
"""Sets of generated coils and masks per acceleration, so that a network does not learn one of them by heart."""


@dataclass(frozen=True)
class SampleSpec:
    """A scan that can be made: its name, the index of its scanner, and how; ``truth`` makes its true volume alone."""

    name: str
    scanner: int
    make: Callable[[], Scan]
    truth: Callable[[], np.ndarray]


@dataclass(frozen=True)
class DatasetSplit:
    """All scans of a training. ``scanners`` are names; ``key`` changes when training samples would."""

    scanners: tuple[str, ...]
    training: tuple[SampleSpec, ...]
    held_out: tuple[SampleSpec, ...]
    key: str


def split_dataset(plan: TrainingPlan, device: str = "cpu") -> DatasetSplit:
    """What the plan asks for. Raises UnrollError where a file is missing, unfit, or nothing is left to train on."""
    return _of_scans(plan) if plan.scans else _of_objects(plan, device)


def _of_objects(plan: TrainingPlan, device: str) -> DatasetSplit:
    """Object i is scanned by scanner i modulo their number; held-out objects by every level at least once."""
    scanners = _scanners(plan, device)
    objects = _objects(plan)
    n = len(scanners)

    def spec(number: int, i: int) -> SampleSpec:
        name = f"{scanners[i].name}, object {number}"
        given = (scanners[i], objects, number)
        return SampleSpec(name, i, partial(_scan, *given), partial(_truth, *given))

    training = tuple(spec(k, k % n) for k in range(plan.n_objects))
    first, kinds = (plan.n_objects, 0) if plan.variety else (0, n if plan.scanner else len(plan.chosen_levels))
    n_scans = max(kinds, plan.n_held_out)
    held_out = tuple(spec(FIRST_HELD_OUT + k % plan.n_held_out, (first + k) % n) for k in range(n_scans))
    files = [(p.name, p.stat().st_size) for p in volume_files(plan.volumes)] if plan.volumes else []
    scanner = file_hash(Path(plan.scanner).expanduser()) if plan.scanner else ""
    held = plan.n_held_out if plan.volumes else 0
    levels = plan.levels if plan.scanner else plan.chosen_levels
    parts = [plan.modality, levels, plan.size, plan.noise.model_dump_json(), files, scanner, held]
    parts += ["variety"] * plan.variety + ["slices"] * plan.slices
    key = fingerprint(*parts, *_start(plan), plan.task)
    return DatasetSplit(tuple(p.name for p in scanners), training, held_out, key)


def _objects(plan: TrainingPlan) -> Objects:
    if plan.slices:
        return sections(plan.volumes)
    if plan.volumes:
        return from_folder(plan.volumes, plan.modality, plan.n_held_out)
    return generated(plan.modality, plan.variety)


def _scan(scanner: Scanner, objects: Objects, number: int) -> Scan:
    return scanner.simulate(objects(scanner.object_grid, number), number)


def _truth(scanner: Scanner, objects: Objects, number: int) -> np.ndarray:
    """The object on the grid to be reconstructed; its unit is of no account to who asks for it alone."""
    return block_mean(objects(scanner.object_grid, number), scanner.grid.shape)


def _scanners(plan: TrainingPlan, device: str) -> list[Scanner]:
    if plan.scanner:
        return _scanner(plan, device)
    if plan.variety:
        return _drawn(plan, device)
    if plan.modality == "ct":
        return [cone_beam_scanner(plan.size, int(v), plan.noise, device) for v in plan.chosen_levels]
    if plan.modality == "image":
        return [image_scanner(plan.size, int(factor), plan.noise) for factor in plan.chosen_levels]
    shape = (max(8, plan.size // 2), plan.size, plan.size)
    return [
        multi_coil_scanner(shape, r, noise=plan.noise, setup_seed=seed)
        for seed in range(MRI_SETUPS)
        for r in plan.chosen_levels
    ]


def _drawn(plan: TrainingPlan, device: str) -> list[Scanner]:
    """One for every object."""
    limits = min(plan.chosen_levels), max(plan.chosen_levels)
    seeds = range(plan.n_objects + plan.n_held_out)
    if plan.modality == "ct":
        return [drawn_xray_scanner(seed, plan.size, limits, plan.noise, device) for seed in seeds]
    return [DrawnCoilScanner(seed, plan.size, limits, plan.noise, is_flat=plan.slices) for seed in seeds]


def _scanner(plan: TrainingPlan, device: str) -> list[Scanner]:
    scan = read(plan.scanner)  # type: ignore[arg-type]
    if scan.modality != plan.modality:
        raise ParameterError(
            f"{plan.scanner} is a {MODALITIES[scan.modality]} scan, the plan is for {MODALITIES[plan.modality]}; "
            f"choose --modality {scan.modality}."
        )
    if plan.levels and scan.modality != "ct":
        raise ParameterError(
            "Accelerations and factors are for generated masks and images; with a scanner its own are used: leave them out."
        )
    if plan.levels and max(plan.levels) > scan.measurements.shape[0]:
        raise ParameterError(f"The scanner has {scan.measurements.shape[0]} views; got {max(plan.levels):g} to choose.")
    views: list[int | None] = [int(v) for v in plan.levels] if plan.levels else [None]
    return [measured_scanner(scan, plan.noise, device, v) for v in views]


def _of_scans(plan: TrainingPlan) -> DatasetSplit:
    """Scan files with their truth; the last ones by name are held out. Equal geometries share a scanner."""
    folder = Path(str(plan.scans)).expanduser()
    files = sorted(folder.glob("*.h5")) if folder.is_dir() else []
    if len(files) <= plan.n_held_out:
        raise FileFormatError(
            f"The folder {folder} holds {len(files)} scan files (.h5), of which {plan.n_held_out} are kept for "
            "validation; add scans with their truth, or hold out fewer (n_held_out)."
        )
    prints = []
    with stage(len(files), "looking at the scans") as done:
        for k, file in enumerate(files):
            done(k)
            prints.append(_checked(plan, file))
    known = list(dict.fromkeys(prints))
    specs = [_of_file(file, known.index(p)) for file, p in zip(files, prints, strict=True)]
    split = len(files) - plan.n_held_out
    names = tuple(f"scans like {files[prints.index(p)].name}" for p in known)
    sizes = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    key = fingerprint(sizes, plan.n_held_out, *_start(plan), plan.task)
    return DatasetSplit(names, tuple(specs[:split]), tuple(specs[split:]), key)


def _start(plan: TrainingPlan) -> tuple[object, ...]:
    """What of the network decides how samples begin."""
    return (plan.network.start_iterations, *("the noise put in",) * plan.network.follows_noise)


def _of_file(file: Path, scanner: int) -> SampleSpec:
    return SampleSpec(file.name, scanner, partial(read, file), lambda: true_volume(read(file)))


def _checked(plan: TrainingPlan, file: Path) -> str:
    scan = read(file)
    if scan.truth is None:
        raise ScanError(f"Training needs the true volume of every scan; {file.name} has none.")
    if scan.modality != plan.modality:
        raise ScanError(
            f"{file.name} is a {MODALITIES[scan.modality]} scan, the plan is for {MODALITIES[plan.modality]}."
        )
    return scan.fingerprint()
