"""``napari-unroll evaluate``: every method on scans with a known truth, as a table, Markdown and JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from napari_unroll.errors import ParameterError
from napari_unroll.events import Event, Measured, Started
from napari_unroll.io.atomic import write_text

ROWS = "rows.jsonl"
Files = Annotated[
    list[str], typer.Argument(metavar="[FILES]", help="Scan files with their truth; none: held-out scans.")
]


def evaluate(
    files: Files = [],  # noqa: B006 (typer reads the default)
    suite: Annotated[
        str, typer.Option(help="generated; real: measured scans in the folder NAPARI_UNROLL_DATA; all: both.")
    ] = "generated",
    task: Annotated[str, typer.Option(help="Held-out scans: cone-beam, multi-coil or all.")] = "all",
    views: Annotated[str, typer.Option(help="Views of cone-beam scans, with commas.")] = "30,50,100",
    acceleration: Annotated[str, typer.Option(help="Accelerations of multi-coil scans, with commas.")] = "5,10",
    n: Annotated[int, typer.Option(help="Generated scans per task and level.")] = 3,
    size: Annotated[int, typer.Option(help="Voxels along an edge.")] = 64,
    volumes: Annotated[
        Path | None, typer.Option(help="Folder of measured volumes to simulate scans of as well.")
    ] = None,
    volume_sizes: Annotated[
        str, typer.Option(help="Voxels along an edge of scans of measured volumes, with commas. None: --size.")
    ] = "",
    method: Annotated[list[str], typer.Option("--method", "-m", help="A method; may be repeated. None: all.")] = [],  # noqa: B006
    weights: Annotated[str, typer.Option(help="Shipped weights by name, a .safetensors file, or auto.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    out: Annotated[Path, typer.Option(help="Folder for results.md and results.json.")] = Path("evaluation"),
) -> None:
    """How good every method is where the truth is known. Ctrl-C keeps the rows so far."""
    from napari_unroll.pipeline.evaluate import EvaluationPlan
    from napari_unroll.pipeline.params import build

    asked = {
        "files": tuple(files), "suite": suite, "task": task, "views": numbers(views), "acceleration": numbers(acceleration), "n": n,
        "size": size, "volumes": None if volumes is None else str(volumes),
        "volume_sizes": numbers(volume_sizes) if volume_sizes else (), "methods": tuple(method), "weights": weights,
        "device": device,
    }  # fmt: skip
    run_evaluation(build(EvaluationPlan, asked, "The evaluation"), out)


def run_evaluation(plan: Any, out: Path) -> None:
    """Evaluate under a progress bar; print the page and write it with its numbers to ``out``.

    Until then every reconstruction is a line of ``rows.jsonl`` there, as soon as it is measured.
    """
    from napari_unroll.cli.progress import run_with_progress
    from napari_unroll.pipeline.evaluate import evaluate as work

    finished = run_with_progress(lambda stop: _written(work(plan, stop), out / ROWS), "evaluation")
    write_text(out / "results.json", json.dumps(report(plan, finished.result), indent=2) + "\n")
    write_text(out / "results.md", page(plan, finished.result))
    (out / ROWS).unlink()
    typer.echo(page(plan, finished.result))
    typer.echo(f"Wrote {out / 'results.md'} and {out / 'results.json'}.")


def _written(events: Iterator[Event], path: Path) -> Iterator[Event]:
    """The same events; rows are written as they come, so that a kill loses none. Raises ParameterError."""
    for event in events:
        if isinstance(event, Started):
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_text(path, "")
            except OSError as error:
                raise ParameterError(f"{path.parent} cannot be written ({error}); choose another --out.") from error
        elif isinstance(event, Measured):
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(event.row) + "\n")
        yield event


def report(plan: Any, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Everything as plain values: means in ``rows``, single reconstructions in ``scans``."""
    from napari_unroll.environment import machine, software
    from napari_unroll.pipeline.summary import comparisons, means

    shown = plan.model_copy(update={"volumes": Path(plan.volumes).name if plan.volumes else None})
    about = {"software": software(), "machine": machine(), "plan": shown.model_dump(mode="json")}
    return about | {"rows": means(rows), "comparisons": comparisons(rows), "scans": rows}


def page(plan: Any, rows: list[dict[str, Any]]) -> str:
    """The tables as Markdown, under what they were measured on."""
    from napari_unroll.environment import machine, software
    from napari_unroll.pipeline.held_out import FIRST_SEED
    from napari_unroll.pipeline.summary import paragraph, tables

    versions = ", ".join(f"{k} {v}" for k, v in software().items())
    seeds = f" with seeds {FIRST_SEED} to {FIRST_SEED + plan.n - 1}, which no training uses," if plan.n else ""
    simulated = (
        f" Simulated scans{seeds} have {plan.size} voxels along an edge where nothing else is said (MRI: half as many planes). "
        "X-ray objects are projected on a grid twice as fine, with 10⁵ photons per pixel; "
        "k-space of 8 coils has complex Gaussian noise of 1 % of the brightest voxel."
    )
    lines = [
        "# Results", "",
        paragraph(
            "Mean PSNR in dB (± standard deviation over scans) / SSIM / residual ‖Ax − y‖ / ‖y‖ / seconds without the fit of "
            "the normal operator; where there is no truth, the error ‖Ax − y‖² / ‖y‖² of measurements that no method saw "
            "instead of the first two. Margins are mean differences on the same scans, with their 95 % confidence "
            "interval where there are several, and the number of scans won. Written by `napari-unroll evaluate`."
            f"{'' if plan.files and not plan.volumes else simulated}"
        ), "",
        *tables(rows), "", paragraph(f"Made on {machine()} with {versions}."),
    ]  # fmt: skip
    return "\n".join([*lines, ""])


def numbers(text: str) -> tuple[float, ...]:
    """``30,50`` as numbers. Raises ParameterError."""
    try:
        return tuple(float(word) for word in text.split(","))
    except ValueError:
        raise ParameterError(f"Expected numbers with commas, like 30,50,100; got {text!r}.") from None
