"""The work of the Train dock as a generator of events: the scanner goes into the folder, then the training runs.

Knows no Qt. A folder that holds the training's ``plan.json`` can be gone on with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from napari_unroll.errors import FileFormatError
from napari_unroll.events import Event, Started, Stop
from napari_unroll.gui import libraries_first  # noqa: F401  before what imports deepinv
from napari_unroll.io.scan_file import write_scan
from napari_unroll.pipeline import params
from napari_unroll.scan.geometry import fingerprint
from napari_unroll.scan.scan import Scan
from napari_unroll.training.plan import TrainingPlan
from napari_unroll.training.session import PLAN, train


@dataclass(frozen=True)
class Order:
    """What is trained where: plan, folder, device, and the scan that is the scanner (else the plan names it)."""

    plan: TrainingPlan
    out: Path
    device: str = "auto"
    scanner: Scan | None = None


def is_taken(folder: Path) -> bool:
    """Whether a training was begun in this folder."""
    return (folder / PLAN).is_file()


def stored_plan(folder: Path) -> TrainingPlan:
    """The plan of the training that was begun here; raises ParameterError where the file is damaged."""
    return params.build(TrainingPlan, params.read_yaml(folder / PLAN), PLAN)  # YAML reads JSON


def training(order: Order) -> Callable[[Stop], Iterator[Event]]:
    """Train, or go on; the result is the path of the best weights."""

    def run(stop: Stop) -> Iterator[Event]:
        yield Started("preparing the training")
        plan = order.plan
        if order.scanner is not None:
            plan = plan.model_copy(update={"scanner": str(_keep_scanner(order.scanner, order.out))})
        yield from train(plan, order.out, order.device, stop)

    return run


def _keep_scanner(scan: Scan, out: Path) -> Path:
    """The scan as a file in the folder, so that the folder alone is enough to go on."""
    path = out / f"scanner-{fingerprint(scan.fingerprint(), scan.measurements)}.h5"
    try:
        out.mkdir(parents=True, exist_ok=True)
        return path if path.exists() else write_scan(path, scan)
    except OSError as error:
        raise FileFormatError(f"Expected a folder that can be written to; {out}: {error.strerror}.") from None
