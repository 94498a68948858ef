"""The model card: what a network was trained on, how, for how long, and how good it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from napari_unroll.environment import machine, software
from napari_unroll.methods.algorithms.network import Network
from napari_unroll.training.dataset import DatasetSplit
from napari_unroll.training.plan import TrainingPlan
from napari_unroll.training.variety_mri import COILS

MANY_PLANES = 1000
"""Thicker volumes than those of the training are no other ones: they are cut into patches. Thinner ones are."""
MOST_NAMES = 20
"""Of scanners that a card lists."""


def model_card(plan: TrainingPlan, split: DatasetSplit, network: Network, **facts: Any) -> dict[str, Any]:
    """Plain values for JSON; ``facts`` (steps, seconds, figures before and after, …) are added as they are.

    The hash of the weights is added where they are written.
    """
    return {
        "name": plan.name,
        "modality": plan.modality,
        "method": plan.method,
        "task": plan.task,
        "licence": plan.licence or "not stated",
        "architecture": f"{network.config.title}; {sum(p.numel() for p in network.parameters())} parameters",
        "trained_on": _data(plan, split),
        "domain": _domain(plan),
        "held_out": [spec.name for spec in split.held_out],
        "noise": "as in the scans" if plan.scans and plan.task == "patch" else _noise(plan),
        "initialised_from": plan.initial or "random weights",
        **facts,
        "machine": machine(),
        "software": software(),
        "seed": plan.options.seed,
        "limits": "Compare with tv-fista before you believe it on scans unlike these.",
        "plan": plan.model_dump(mode="json"),
    }


def _data(plan: TrainingPlan, split: DatasetSplit) -> dict[str, Any]:
    objects = f"volumes in {plan.volumes}" if plan.volumes else "generated objects"
    if plan.slices:
        objects = f"generated images and sections of {objects}" if plan.volumes else "generated images"
    source = f"scans in {plan.scans}" if plan.scans else objects
    return {"scans": len(split.training), "objects": source, "scanners": _some(split.scanners)}


def _some(names: Sequence[str]) -> list[str]:
    """The names, or of many how many, the first and the last."""
    return list(names) if len(names) <= MOST_NAMES else [f"{len(names)}, from {names[0]} to {names[-1]}"]


def _domain(plan: TrainingPlan) -> dict[str, Any]:
    """What scans are compared with (``methods.domain``); empty where the scanner or the scans are the user's own."""
    if plan.scans or plan.scanner or plan.task == "denoise" or plan.modality == "image":
        return {}
    levels = [min(plan.chosen_levels), max(plan.chosen_levels)]
    if plan.modality == "ct":
        photons = {} if plan.noise.kind == "gaussian" else {"photons": list(plan.noise.photons)}
        kinds, planes = (["ConeBeam", "ParallelBeam"], 1) if plan.variety else (["ConeBeam"], plan.size)
        density = [level / plan.size for level in levels]
        return {
            "geometries": kinds,
            "views": levels,
            "views_per_voxel": density,
            "planes": [planes, MANY_PLANES],
            **photons,
        }
    coils = {"coils": [min(COILS), max(COILS)]} if plan.variety else {}
    flat = {"planes": [1, 1]} if plan.slices else {}
    known = {"geometries": ["CartesianSampling"], "acceleration": levels, "noise": list(plan.noise.sigma)}
    return {**known, **coils, **flat}


def _noise(plan: TrainingPlan) -> str:
    if plan.task == "denoise":
        low, high = plan.options.noise_levels
        return f"white Gaussian on the volumes, σ of {low:g} to {high:g} of their scale (a part of complex ones)"
    low, high = plan.noise.sigma
    if plan.modality == "ct" and plan.noise.kind != "gaussian":
        few, many = plan.noise.photons
        return f"Poisson, {few:.3g} to {many:.3g} photons per pixel"
    if plan.modality == "ct":
        return f"Gaussian, {low:g} to {high:g} of the largest line integral"
    if plan.modality == "image":
        return f"Gaussian, {low:g} to {high:g} of the brightest voxel"
    coils = plan.noise.coil_covariance or f"correlation {plan.noise.coil_correlation:g} between neighbours"
    return f"complex Gaussian, {low:g} to {high:g} of the brightest voxel, coils: {coils}"
