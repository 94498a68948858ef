"""What a comparison of methods found for a scan, on disk; and so which method is the automatic one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from napari_unroll.io.atomic import write_text
from napari_unroll.io.checksums import digest
from napari_unroll.methods.algorithms.adaptation import n_adaptation
from napari_unroll.methods.domain import foreign
from napari_unroll.methods.problem import Method
from napari_unroll.methods.registry import METHODS, classical_default, default_for
from napari_unroll.normal.cache import cache_folder
from napari_unroll.scan.geometry import fingerprint
from napari_unroll.scan.scan import Scan


def verdict_path(scan: Scan) -> Path | None:
    """The file for this scan, known by its geometry and where it came from; None where that is not known."""
    made = scan.provenance
    if not (made.sha256 or made.source):
        return None
    key = fingerprint(scan.fingerprint(), made.sha256, made.source if not made.sha256 else "", made.options, made.seed)
    return cache_folder() / "verdicts" / f"{key}.json"


def remember(scan: Scan, verdict: dict[str, Any]) -> None:
    """Keep what a comparison found (plain values, with ``method``) and its checksum; damaged ones count as none."""
    path = verdict_path(scan)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(verdict | {"sha256": digest(verdict, {})}, indent=2) + "\n")


def best_known(scan: Scan) -> Method | None:
    """The method that a comparison on this scan found best; None where there was none, or the method is gone."""
    path = verdict_path(scan)
    if path is None:
        return None
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept.pop("sha256") != digest(kept, {}):
            return None
        found = METHODS.get(str(kept["method"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return None if found is None or found.obstacle(scan) else found


def automatic(scan: Scan) -> tuple[Method, list[str]]:
    """What ``auto`` means, and why where it is not the registry's default: the best of a comparison on this scan, if any.

    A network is the default only where the scan is like those that it was trained on, or where it is adapted to it.
    """
    known = best_known(scan)
    if known is not None:
        return known, [f"{known.title} foretold left-out measurements of this scan best, so auto takes it."]
    default, classical = default_for(scan), classical_default()
    reasons = foreign(default, scan)
    if not reasons:
        return default, []
    if is_adapted(default, scan):
        return default, []
    return classical, [*reasons, f"So auto takes {classical.name}, not {default.name}."]


def is_adapted(method: Method, scan: Scan) -> bool:
    """Whether the method, left to its defaults, trains its network on by the scan's own measurements."""
    return method.settle is not None and n_adaptation(method.settle(scan, method.params())) > 0
