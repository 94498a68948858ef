"""What each process of ``torchrun`` finds of one operator; run by test_team."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import torch
from torch import distributed

from napari_unroll import team
from napari_unroll.events import Finished
from napari_unroll.methods import streaming
from napari_unroll.methods.algorithms import reconstruct
from napari_unroll.normal.cache import cached_fit
from napari_unroll.normal.fit import FitOptions
from napari_unroll.physics import joseph, laws
from napari_unroll.physics.build import build_physics
from napari_unroll.physics.fourier import CartesianMRI
from napari_unroll.physics.xray import XRay
from napari_unroll.pipeline.plan import Choices, resolve
from napari_unroll.pipeline.run import run
from napari_unroll.scan.scan import Scan
from tests.methods import tiny

FIT = {"n_probes": 4, "n_test": 1, "support": 8}


def operator() -> XRay:
    """Seven views, an odd number for two processes."""
    scan = tiny.cone(12, 7)
    return XRay(scan.geometry, scan.grid, n_threads=1)


def given(physics: XRay) -> tuple[torch.Tensor, torch.Tensor]:
    """A volume and measurements."""
    return (
        laws.random_like(physics.x_shape, torch.float32, "cpu", 0),
        laws.random_like(physics.y_shape, torch.float32, "cpu", 1),
    )


COILS = {
    "Cartesian": lambda: build_physics(tiny.multicoil((4, 12, 12)), "cpu"),
    "one coil": lambda: CartesianMRI(np.ones((1, 8, 8)), np.ones((1, 1, 8, 8))),
    "radial": lambda: build_physics(tiny.radial(), "cpu"),
}


def of_coils(kind: str) -> dict[str, np.ndarray]:
    """What the operators of MRI make of a volume and of measurements."""
    physics = COILS[kind]()
    x = laws.random_like(physics.x_shape, physics.dtype, "cpu", 0)
    y = laws.random_like(physics.y_shape, physics.dtype, "cpu", 1)
    made = {"A": physics.A(x), "A_adjoint": physics.A_adjoint(y), "normal": physics.normal(x), "rss": physics.rss(y)}
    return {f"{kind} {name}": values.numpy() for name, values in made.items()}


def counted_coils(kind: str) -> int:
    """Coils whose samples this process makes."""
    physics, seen = COILS[kind](), []
    samples = physics._samples
    physics._samples = lambda x, coils: seen.append(coils.stop - coils.start) or samples(x, coils)
    physics.A(torch.zeros(physics.x_shape, dtype=physics.dtype))
    return seen[0]


IMAGES = {"blurred": tiny.blurred, "downsampled": tiny.downsampled}


def image(scan: Scan, folder: Path) -> np.ndarray:
    """Of two iterations of a network over patches, and a pass of refinement."""
    params = tiny.quick_params(tiny.get("unrolled-pgd"), scan, folder)
    chosen = Choices(method="unrolled-pgd", params=params, patch_size=12, overlap=4, precision="float32", device="cpu")
    *_, last = run(resolve(chosen, scan), scan)
    assert isinstance(last, Finished)
    assert last.result is not None, last.advice
    return last.result


def counted_patches(scan: Scan, folder: Path) -> tuple[np.ndarray, list[int]]:
    """The same, and of every pass how many patches this process makes, and how many there are."""
    seen: list[list[int]] = []

    def in_turn(batches, apply):  # type: ignore[no-untyped-def]
        waiting, mine = list(batches), []
        seen.append(mine)
        yield from team.in_turn(waiting, lambda boxes: mine.append(len(boxes)) or apply(boxes))
        mine[:] = [sum(mine), sum(map(len, waiting))]

    streaming.in_turn = reconstruct.in_turn = in_turn
    return image(scan, folder), [n for mine in seen for n in mine]


def shares(n: int) -> tuple[int, int]:
    """Coils of each of two processes."""
    return n // 2, n - n // 2


def fitted(folder: Path) -> tuple[np.ndarray, bool]:
    """A fitted operator's response, and whether it came from the cache of this process."""
    os.environ["NAPARI_UNROLL_CACHE"] = str(folder / f"cache-{distributed.get_rank()}")
    physics = operator()
    *_, last = cached_fit(tiny.cone(12, 7), physics, FitOptions(**FIT))
    x = laws.random_like(physics.x_shape, torch.float32, "cpu", 2)
    return last.result.apply(x).numpy(), last.seconds == 0


def failure() -> str:
    """What is raised where the second process has no memory."""

    def work(views: slice) -> torch.Tensor:
        if views.stop == 7:
            raise MemoryError("no memory there")
        return torch.zeros(3)

    try:
        team.summed(work, 7)
    except MemoryError as error:
        return str(error)
    return ""


def main(folder: Path) -> None:
    """Everything that the test compares, in a file for each process."""
    physics, counted = operator(), []
    forward = joseph.forward
    joseph.forward = lambda volume, vectors, *more: counted.append(len(vectors)) or forward(volume, vectors, *more)
    x, y = given(physics)
    found = {"A": physics.A(x), "A_adjoint": physics.A_adjoint(y), "normal": physics.normal(x)}
    found |= {"A_dagger": physics.A_dagger(y), "one_view": physics.of_views([3]).normal(x), "n_views": counted[0]}
    found["fit"], _ = fitted(folder)
    again = fitted(folder)[1]
    if distributed.get_rank() == 1:
        for path in (folder / "cache-1").glob("normal/*"):
            path.unlink()
    found["kept"] = [again, fitted(folder)[1]]
    found["failure"] = failure()
    for kind in COILS:
        found |= of_coils(kind) | {f"{kind} n_coils": counted_coils(kind)}
    own = folder / f"networks-{distributed.get_rank()}"
    own.mkdir()
    for kind, make in IMAGES.items():
        found[kind], found[f"{kind} n_patches"] = counted_patches(make(), own)
    np.savez(folder / f"{distributed.get_rank()}.npz", **found)


if __name__ == "__main__":
    distributed.init_process_group("gloo")
    main(Path(sys.argv[1]))
    distributed.destroy_process_group()
