"""The record that travels with every result: enough to repeat it, and to know what it is.

Plain values only, so that any writer can store it as JSON.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from napari_unroll.environment import software
from napari_unroll.errors import WeightsError
from napari_unroll.events import Finished, FixedPoint
from napari_unroll.methods.registry import get
from napari_unroll.pipeline.plan import Plan
from napari_unroll.pipeline.spoken import changed_fit
from napari_unroll.scan.geometry import VolumeGrid, fingerprint
from napari_unroll.scan.scan import Scan


def record(plan: Plan, scan: Scan, finished: Finished) -> dict[str, Any]:
    """Every parameter, versions, hashes of input and weights, seed, outcome, and the command that repeats the run."""
    return {
        **description(plan, scan),
        "found": dict(finished.found),
        "outcome": str(finished.outcome),
        "advice": finished.advice,
        "seconds": round(finished.seconds, 3),
        "residuals": [float(f"{r:.6g}") for r in finished.history],
        "fixed_point": _fixed_point(finished.fixed_point),
    }


def description(plan: Plan, scan: Scan) -> dict[str, Any]:
    """The same of a run that has not ended."""
    method = get(plan.method)
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "software": software(),
        "command": plan.command,
        "method": {"name": method.name, "source": method.source, "params": plan.params.model_dump(mode="json")},
        "weights": weights_of(plan, scan),
        "plan": {
            "patch_size": list(plan.patch_size),
            "overlap": plan.overlap,
            "device": plan.card or plan.device,
            "volumes_on": plan.device,
            "precision": plan.precision,
            "max_memory_gb": plan.max_memory_gb,
            "normal_form": plan.fit.form if plan.needs_normal else None,
            "fit": changed_fit(plan.fit) if plan.needs_normal else {},
            "roi": None if plan.roi is None else [n for b in plan.roi for n in (b.start, b.stop)],
            "memory_bytes": plan.memory_bytes,
            "disk_bytes": plan.disk_bytes,
        },
        "scan": _scan(scan),
        "grid": _grid(plan.grid),
    }


def _fixed_point(found: FixedPoint | None) -> dict[str, Any] | None:
    """How the search went, None for a method that looks for none."""
    return None if found is None else {"converged": found.converged, "text": found.text, **found.figures}


def weights_of(plan: Plan, scan: Scan) -> dict[str, str] | None:
    """Name and hash of the weights that a plan takes, None where it takes none."""
    find = get(plan.method).find_weights
    if find is None:
        return None
    try:
        weights = find(scan, plan.params)
    except WeightsError:
        return None
    return {"name": str(weights.name), "sha256": str(weights.sha256)}


def _scan(scan: Scan) -> dict[str, Any]:
    source = scan.provenance
    return {
        "name": scan.name,
        "modality": scan.modality,
        "source": source.source,
        "format": source.format,
        "sha256": source.sha256,
        "seed": source.seed,
        "options": dict(source.options),
        "edits": dict(source.edits),
        "shape": [int(n) for n in scan.measurements.shape],
        "geometry_hash": fingerprint(scan.geometry),
        "notes": list(scan.notes),
    }


def _grid(grid: VolumeGrid) -> dict[str, Any]:
    return {"shape": list(grid.shape), "spacing_mm": list(grid.spacing_mm), "center_mm": list(grid.center_mm)}
