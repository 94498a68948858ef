"""The running of reconstructions in one window: started, streamed into a layer, followed, kept, given up.

Tells a dock by signals what there is to say; knows layers, jobs and runs, and no forms.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from qtpy.QtCore import QObject, Signal

from napari_unroll.events import Event, Finished, IterationDone, Outcome, Warned
from napari_unroll.gui import jobs, parts
from napari_unroll.gui.away_jobs import AwayRun, Found
from napari_unroll.gui.images import contrast
from napari_unroll.gui.layers import RECORD
from napari_unroll.gui.result_view import ResultView
from napari_unroll.gui.session import Result, Session
from napari_unroll.gui.worker import Make, Run
from napari_unroll.methods import registry
from napari_unroll.pipeline import provenance
from napari_unroll.pipeline.plan import Plan
from napari_unroll.pipeline.watching import FinishedElsewhere, Kept
from napari_unroll.scan.scan import Scan


class Reconstructions(QObject):
    """At most one runs: ``view`` is what it streams into, ``plan`` what it does, ``away`` the run elsewhere that it watches.

    ``result`` is the last one that ended with a volume.
    """

    began = Signal()
    said = Signal(str, str)
    """A sentence and its kind (see ``parts.Message``)."""
    iterated = Signal(object)
    ended = Signal(bool)
    """Whether there is a volume."""
    unwatched = Signal()
    """A run elsewhere ended, or goes on without this window."""

    def __init__(self, session: Session, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self.view: ResultView | None = None
        self.plan: Plan | Kept | None = None
        self.away: AwayRun | None = None
        self.result: Result | None = None
        session.layers_changed.connect(self._on_layers)

    def here(self, plan: Plan, scan: Scan, factors: Any = None) -> Run:
        """Run ``plan`` in this process."""
        return self._start(plan, scan, jobs.reconstruction(plan, scan, factors))

    def kept(
        self, plan: Plan, scan: Scan, factors: Any, store: Path, *, again: bool = False, overwrite: bool = False
    ) -> Run:
        """The same, kept in ``store`` while it goes; ``again`` goes on with what is kept there."""
        job = jobs.kept_reconstruction(plan, scan, factors, store, again=again, overwrite=overwrite)
        return self._start(plan, scan, job)

    def elsewhere(self, plan: Plan | Kept, scan: Scan, away: AwayRun) -> Run:
        """Watch a run that another process is at, or is about to start."""
        return self._start(plan, scan, away.watched(plan, scan), away)

    def find(self, store: Path, is_here: bool) -> Run:
        """Look what is kept in ``store``; the result is a Found, or the path of a store that is finished."""
        away = AwayRun(store)
        run = self._session.runner.start(away.found(is_here), f"reading {store.name}")
        self.away = away
        run.finished.connect(self._on_found)
        self.began.emit()
        return run

    def _on_found(self, finished: Finished) -> None:
        self.away = None
        if not isinstance(finished.result, Found):
            self.ended.emit(False)
            self.said.emit(*parts.ending(finished))
            self.unwatched.emit()

    def finish_now(self) -> None:
        """Ask for what there is."""
        self._session.runner.finish_now()
        self.said.emit("Finishing with what there is …", "info")

    def cancel(self) -> None:
        """Give the run up, wherever it is."""
        if self.away is not None:
            self.away.gives_up = True
        self._session.runner.cancel()

    def _start(self, plan: Plan | Kept, scan: Scan, job: Make, away: AwayRun | None = None) -> Run:
        session = self._session
        session.runner.cancel()
        limits = None if scan.truth is None else contrast(np.abs(scan.truth))
        name = session.free_name(f"{scan.name} · {plan.method}")
        view = session.layers.begin_result(name, plan.grid, limits, registry.get(plan.method).patchwise)
        run = session.runner.start(job, plan.title, sink=view.sink)
        run.event.connect(self._on_event)
        run.finished.connect(self._on_finished)
        self.view, self.plan, self.away = view, plan, away
        self.began.emit()
        return run

    def _on_layers(self) -> None:
        """Whoever takes the result away wants no result."""
        view = self.view
        if view is not None and view.layer not in self._session.viewer.layers:
            self.view, away = None, self.away
            self._session.runner.cancel()
            self._session.layers.finish_result(view, None)
            self.said.emit(
                "The layer of the result was removed, so the run was ended." if away is None else goes_on(away), "info"
            )

    def _on_event(self, event: Event) -> None:
        if self.view is not None:
            self.view.follow(event)
        if isinstance(event, Warned):
            self.said.emit(event.text, "warning")
        elif isinstance(event, IterationDone):
            self.iterated.emit(event)

    def _on_finished(self, finished: Finished) -> None:
        view, plan, scan, away = self.view, self.plan, self._session.scan, self.away
        self.view = self.away = None
        if away is not None:
            self.unwatched.emit()
        if view is None:
            return
        self._session.layers.finish_result(view, finished.result)
        self.said.emit(*_said_at_the_end(finished, away))
        if finished.result is not None and plan is not None and scan is not None:
            self._keep(view, plan, scan, finished)
        self.ended.emit(finished.result is not None)

    def _keep(self, view: ResultView, plan: Plan | Kept, scan: Scan, finished: Finished) -> None:
        if isinstance(finished, FinishedElsewhere):
            record = dict(finished.record)
        else:
            assert isinstance(plan, Plan)
            record = provenance.record(plan, scan, finished)
        self.result = Result(view.layer.name, view.kept(finished.result), plan.grid, record)
        view.layer.metadata[RECORD] = record
        if finished.fixed_point is not None:
            self._session.layers.show_patches(finished.fixed_point, plan.grid)
        self._session.result_added.emit(self.result)


def goes_on(away: AwayRun) -> str:
    """What becomes of a run elsewhere that this window no longer watches."""
    return f"The run in {away.store.name} goes on without this window; take it up again in the list of runs elsewhere."


def _said_at_the_end(finished: Finished, away: AwayRun | None) -> tuple[str, str]:
    """The last sentence about a run, and its kind."""
    if away is not None and finished.outcome is Outcome.CANCELLED and not away.gives_up:
        return goes_on(away), "info"
    kind = {Outcome.FAILED: "error", Outcome.COMPLETED: "good"}.get(finished.outcome, "info")
    if finished.fixed_point is not None and not finished.fixed_point.converged:
        kind = "warning"
    took = f" {parts.seconds(finished.seconds)}." if finished.result is not None else ""
    return finished.advice + took, kind
