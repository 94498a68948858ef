"""Every scan file in a folder: opened, reconstructed quickly, shown on one picture.

    python benchmarks/files.py [FOLDER] [--out files] [--max-size 160]

FOLDER is NAPARI_UNROLL_DATA unless given. Whatever is recognised is read (a folder that is a scan counts as one), needs that
are asked for are filled in from OPTIONS below, and the quick reconstruction (filtered back-projection, or the conjugate phase
sum of k-space) becomes a tile: the middle slice along the axis of most voxels across. Writes files.png and files.md: format,
measurements, noise, seconds of processor time, or the one sentence that says why there is no picture.
"""

from __future__ import annotations

import argparse
import math
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt

from napari_unroll.errors import UnrollError
from napari_unroll.events import result_of
from napari_unroll.io.any_volume import read_any_volume
from napari_unroll.io.atomic import write_text
from napari_unroll.io.registry import find_reader, read
from napari_unroll.methods.problem import Problem, as_values, measured
from napari_unroll.physics.build import build_physics
from napari_unroll.pipeline.measured import data_folder
from napari_unroll.scan.noise import measured_noise
from napari_unroll.scan.resample import shrunk
from napari_unroll.scan.scan import Scan

SPOKES = {"axes": "slice,spoke,coil,readout", "angles": "full-turn", "slice": 1}
OPTIONS: dict[str, dict[str, Any]] = {
    "cds_radial33.npy": SPOKES, "cds_radial21.npy": SPOKES, "HAADF.mrc": {"rotation_axis": "horizontal"},
    "projections.mrc": {"angles": "0:180"},
}  # fmt: skip
"""What files do not say, by their name."""
HELPERS = (".md", ".txt", ".rawtlt", ".geom", ".json", "LICENSE")
"""Files beside a scan."""


@dataclass(frozen=True)
class Tile:
    """One file: what it is, and its middle slice, or why there is none."""

    name: str
    text: str
    image: np.ndarray | None = None


def scans(folder: Path) -> Iterator[Path]:
    """Files and folders that may be scans; what lies in a folder that is one is not looked at again."""
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not recognised(path):
            yield from scans(path)
        elif not path.name.endswith(HELPERS):
            yield path


def recognised(path: Path) -> bool:
    """Whether a reader knows it."""
    try:
        find_reader(path)
    except UnrollError:
        return False
    return True


def tile(path: Path, max_size: int) -> Tile:
    """Read and reconstruct one file."""
    begun = time.process_time()
    try:
        reader = find_reader(path)
        options = OPTIONS.get(path.name, {})
        sized = {"max_size": max_size} if "max_size" in reader.options.model_fields else {}
        scan = read(path, **options, **sized)
        image = middle(quick(scan))
    except UnrollError as error:
        return volume_tile(path, str(error))
    noise = measured_noise(scan)
    facts = [
        reader.name,
        "×".join(map(str, scan.measurements.shape)),
        noise.text.split(" (")[0] if noise else "noise not known",
    ]
    return Tile(path.name, ", ".join([*facts, f"{time.process_time() - begun:.1f} s"]), image)


def volume_tile(path: Path, why_no_scan: str) -> Tile:
    """The middle of what is a volume, such as trainings read; else the sentence that says why it is no scan."""
    try:
        values = read_any_volume(path)
    except UnrollError:
        return Tile(path.name, why_no_scan)
    return Tile(path.name, f"a volume, {'×'.join(map(str, values.shape))}", middle(np.abs(values)))


def quick(scan: Scan) -> np.ndarray:
    """Magnitudes (z, y, x) of the quick reconstruction."""
    physics = build_physics(scan, "cpu")
    problem = Problem(scan=scan, physics=physics, y=measured(scan, "cpu"))
    return np.abs(as_values(result_of(problem.find_quick())))


def middle(volume: np.ndarray) -> np.ndarray:
    """The slice across the shortest axis, at most 512 pixels wide."""
    axis = int(np.argmin(volume.shape))
    image = volume.take(volume.shape[axis] // 2, axis)
    return np.squeeze(shrunk(image[None], (1, math.ceil(max(image.shape) / 512), math.ceil(max(image.shape) / 512))))


def picture(tiles: list[Tile], path: Path) -> None:
    """Those that have an image, five in a row."""
    shown = [t for t in tiles if t.image is not None]
    rows = math.ceil(len(shown) / 5)
    figure, axes = plt.subplots(rows, 5, figsize=(15, 3.4 * rows), squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    for ax, t in zip(axes.flat, shown, strict=False):
        assert t.image is not None
        ax.imshow(t.image, cmap="gray", vmin=0, vmax=np.quantile(t.image, 0.998))
        ax.set_title("\n".join([t.name, *textwrap.wrap(t.text, 48)]), fontsize=6)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    """Look, show, write."""
    mpl.use("Agg")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--out", type=Path, default=Path("files"))
    parser.add_argument("--max-size", type=int, default=160, help="longest edge of X-ray volumes in voxels")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    tiles = []
    for path in scans(given.folder or data_folder()):
        tiles.append(tile(path, given.max_size))
        print(f"{tiles[-1].name}: {tiles[-1].text}", flush=True)
    picture(tiles, given.out / "files.png")
    lines = ["| file | what it is |", "|---|---|", *(f"| {t.name} | {t.text} |" for t in tiles), ""]
    write_text(given.out / "files.md", "\n".join(lines))


if __name__ == "__main__":
    main()
