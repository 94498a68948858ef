"""Volumes as .npy, complex ones as they are, with grid and record in a .json beside it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from napari_unroll.errors import FileFormatError
from napari_unroll.io.npy_header import load_npy
from napari_unroll.io.volume import RECORD_KEY, Volume
from napari_unroll.scan.geometry import VolumeGrid


def sidecar(path: Path) -> Path:
    """The .json that belongs to a .npy."""
    return path.with_suffix(".json")


def write(path: Path, volume: Volume) -> None:
    """The values alone."""
    with path.open("wb") as stream:
        np.save(stream, volume.values, allow_pickle=False)


def write_sidecar(path: Path, volume: Volume) -> None:
    """Grid and record."""
    note = {RECORD_KEY: {"grid": asdict(volume.grid), "record": volume.record}}
    path.write_text(json.dumps(note, indent=2), encoding="utf-8")


def is_ours(path: Path) -> bool:
    """Whether grid and record lie beside the values."""
    side = sidecar(path)
    if not side.is_file():
        return False
    with side.open("rb") as stream:
        return RECORD_KEY.encode() in stream.read(200)


def read(path: Path) -> Volume:
    """Values, grid and record."""
    try:
        note = json.loads(sidecar(path).read_text(encoding="utf-8"))[RECORD_KEY]
        grid = VolumeGrid(**{k: tuple(v) for k, v in note["grid"].items()})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FileFormatError(f"{sidecar(path).name} beside {path.name} is missing or damaged ({error}).") from error
    return Volume(load_npy(path), grid, note["record"])
