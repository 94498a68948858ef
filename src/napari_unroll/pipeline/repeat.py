"""From the record of a stored result back to its scan and its plan, so that it can be made again to the same values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from napari_unroll.errors import ParameterError
from napari_unroll.io.volume import Volume
from napari_unroll.io.writers import read_volume
from napari_unroll.pipeline.edits import Edits, edited
from napari_unroll.pipeline.params import build
from napari_unroll.pipeline.plan import Choices, Plan, resolve
from napari_unroll.pipeline.provenance import weights_of
from napari_unroll.pipeline.sources import open_scan
from napari_unroll.scan.scan import Scan

WISHES = ("device", "precision", "max_memory_gb")
SMALLEST = 8
"""Edge of a patch that can be asked for; volumes that are smaller have it whole."""


@dataclass(frozen=True)
class Stored:
    """A stored result, the scan that it was made of, and the choices that made it."""

    volume: Volume
    scan: Scan
    choices: Choices


def open_result(path: Path | str) -> Stored:
    """Read a stored result and, where its record says it was, the scan.

    Raises FileFormatError where either cannot be read, ParameterError where the result tells nothing of its origin.
    """
    volume = read_volume(path)
    scan = scan_of(volume.record, Path(path).name)
    return Stored(volume, scan, choices_of(volume.record))


def scan_of(record: Mapping[str, Any], name: str = "The result") -> Scan:
    """The scan of a record, read and changed as it was then."""
    about = record.get("scan", {})
    if not about or "method" not in record:
        raise ParameterError(f"{name} has no record of how it was made; results written by this program have one.")
    if not about["source"]:
        raise ParameterError(f"{name} was made of a scan that is in no file ({about['name']}); save such a scan first.")
    scan = open_scan(about["source"], about["options"])
    if about["sha256"] and scan.provenance.sha256 != about["sha256"]:
        raise ParameterError(f"{about['source']} has changed since {name} was made of it; it cannot be repeated.")
    return edited(scan, build(Edits, about.get("edits", {}), "The record"))


def choices_of(record: Mapping[str, Any]) -> Choices:
    """What was chosen, or was decided for the user where he left it open; patches are ``plan_of``'s."""
    method, plan = record["method"], record["plan"]
    asked = {
        "method": method["name"],
        "params": method["params"],
        **{name: plan[name] for name in WISHES if name in plan},
    }
    if plan["normal_form"]:
        asked["normal"], asked["fit"] = plan["normal_form"], plan.get("fit", {})
    if plan["roi"]:
        asked["roi"] = plan["roi"]
    return build(Choices, asked, "The record")


def plan_of(stored: Stored) -> Plan:
    """The plan that repeats the run, with the patches that it had."""
    return _as_then(stored.choices, stored.scan, stored.volume.record)


def run_of(record: Mapping[str, Any], name: str) -> tuple[Plan, Scan]:
    """The same from the record of a run that is kept under ``name``, and its scan.

    Raises ParameterError where the scan or the weights are others now.
    """
    scan = scan_of(record, name)
    plan = _as_then(choices_of(record), scan, record)
    now, then = weights_of(plan, scan), record["weights"]
    if now != then:
        raise ParameterError(
            f"The run was begun with other weights ({then['name'] if then else 'none'}) than are there now; begin it anew."
        )
    return plan, scan


def _as_then(choices: Choices, scan: Scan, record: Mapping[str, Any]) -> Plan:
    """The plan with the patches of the record: those of "auto" where it still comes to them, else asked for, as in its command.

    Patches that no choice gives now, such as those of another memory, are put into the plan of "auto".
    """
    then = record["plan"]
    patch, overlap = tuple(then["patch_size"]), then["overlap"]
    plan = resolve(choices, scan)
    asked = plan if _has(plan, patch, overlap) else resolve(_with_patches(choices, patch, overlap), scan)
    return asked if _has(asked, patch, overlap) else replace(plan, patch_size=patch, overlap=overlap)


def _has(plan: Plan, patch: tuple[int, ...], overlap: int) -> bool:
    return plan.patch_size == patch and plan.overlap == overlap


def _with_patches(choices: Choices, patch: tuple[int, ...], overlap: int) -> Choices:
    return choices.model_copy(update={"patch_size": max(SMALLEST, *patch), "overlap": overlap})
