"""``napari-unroll reconstruct``: run a plan, keep it in its store while it goes, and write the volume; or go on with one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from napari_unroll.cli.facts import print_facts
from napari_unroll.cli.progress import run_with_progress
from napari_unroll.cli.team import joined
from napari_unroll.cli.view import print_quality
from napari_unroll.errors import ParameterError
from napari_unroll.events import Finished
from napari_unroll.io.writers import check_result, suffix_of, write_somewhere
from napari_unroll.pipeline import away
from napari_unroll.pipeline.away import PROCESS, SLURM, Queue
from napari_unroll.pipeline.params import build
from napari_unroll.pipeline.plan import Plan
from napari_unroll.pipeline.provenance import record
from napari_unroll.pipeline.repeat import run_of
from napari_unroll.pipeline.run import run
from napari_unroll.pipeline.telling import told
from napari_unroll.pipeline.unfinished import UnfinishedRun, check_free, kept, record_of, resumed
from napari_unroll.scan.scan import Scan
from napari_unroll.team import exchanged, has_others

HERE = "here"


@dataclass(frozen=True)
class Place:
    """Another process of this machine, or a queue."""

    queue: Queue | None


def check_place(out: Path, overwrite: bool) -> None:
    """Raise ParameterError where a result cannot be written."""
    (check_free if _is_kept(out) else check_result)(out, overwrite)


def keep(plan: Plan, scan: Scan, out: Path, overwrite: bool) -> None:
    """Run and write; an OME-Zarr store holds the run while it goes. Of processes of ``torchrun`` the first keeps and writes."""
    with joined(plan.card or plan.device) as is_first, ExitStack() as stack:
        plan, unfinished = _planned(plan, is_first), None
        if _is_kept(out):
            unfinished = _entered(stack, lambda: kept(out, plan, scan, overwrite) if is_first else nullcontext())
        else:
            check_result(out, overwrite, plan.result_bytes)
        finished = _run(plan, scan, unfinished)
        if is_first:
            _write(out, overwrite or _is_kept(out), plan, scan, finished)


def go_on(path: Path) -> None:
    """Go on with the run that is kept at ``path``, and write its volume there."""
    plan, scan = run_of(record_of(path), path.name)
    with joined(plan.card or plan.device) as is_first, ExitStack() as stack:
        plan = _planned(plan, is_first)
        unfinished = _entered(stack, lambda: resumed(path, writes=is_first))
        finished = _run(plan, scan, unfinished)
        if is_first:
            _write(path, True, plan, scan, finished)


def _planned(plan: Plan, is_first: bool) -> Plan:
    """The plan of the first process, which prints it: memory that is free here may be another."""
    plan = exchanged(lambda: plan, "plan")[0]
    if is_first:
        print_facts(plan.facts)
    return plan


def _entered(
    stack: ExitStack, store: Callable[[], AbstractContextManager[UnfinishedRun | None]]
) -> UnfinishedRun | None:
    """The opened store; where that fails in one process, it is raised in all."""
    opened: list[UnfinishedRun | None] = []
    exchanged(lambda: opened.append(stack.enter_context(store())), "store")
    return opened[0]


def place_of(on: str, queue: dict[str, Any], out: Path) -> Place | None:
    """Where a run is carried out, None for here; raises ParameterError where it cannot be kept there."""
    if on not in (HERE, PROCESS, SLURM):
        raise ParameterError(f"Expected --on {HERE}, {PROCESS} or {SLURM}; got {on!r}.")
    if queue and on != SLURM:
        raise ParameterError("--queue is for --on slurm.")
    if on != HERE and not _is_kept(out):
        raise ParameterError(f"A run elsewhere is kept while it goes; give --out NAME.ome.zarr, not {out.name}.")
    return None if on == HERE else Place(build(Queue, queue, "The queue") if on == SLURM else None)


def send(place: Place, store: Path, plan: Plan | None = None, overwrite: bool = False) -> None:
    """Start a plan, or go on with the run in ``store``, elsewhere."""
    if plan is not None:
        print_facts(plan.facts)
    words = away.resume_words(store) if plan is None else away.words_of(plan.command, store, overwrite)
    sent = away.start(words, store, place.queue)
    typer.echo(f"Started {sent.where}, which writes {store}. Go on with a run… in the Reconstruct dock shows it.")


def _is_kept(out: Path) -> bool:
    return suffix_of(out) == ".ome.zarr"


def _run(plan: Plan, scan: Scan, unfinished: UnfinishedRun | None) -> Finished:
    """Processes of ``torchrun`` tell nothing to watchers: a wish of theirs would reach one process only."""
    tells = None if has_others() else unfinished
    return run_with_progress(lambda stop: told(run(plan, scan, stop, kept=unfinished), tells, stop), plan.title)


def _write(out: Path, overwrite: bool, plan: Plan, scan: Scan, finished: Finished) -> None:
    made: dict[str, Any] = record(plan, scan, finished)
    saved, trouble = write_somewhere(out, finished.result, plan.grid, made, overwrite=overwrite)
    print_quality(finished.result, scan.truth if plan.roi is None or scan.truth is None else scan.truth[plan.roi])
    if trouble:
        typer.echo(f"napari-unroll: {trouble}", err=True)
        raise typer.Exit(1)
    typer.echo(f"Wrote {saved} in {finished.seconds:.1f} s.")
