"""Part of the Reconstruct dock: where a run is carried out, and which runs were started elsewhere.

Asks by signals; starts and watches nothing.
"""

from __future__ import annotations

from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QComboBox, QLabel, QVBoxLayout, QWidget

from napari_unroll.events import Finished
from napari_unroll.gui import parts
from napari_unroll.gui.forms import RecordForm
from napari_unroll.gui.jobs import single
from napari_unroll.gui.memory import Memory
from napari_unroll.gui.worker import Runner
from napari_unroll.pipeline import away
from napari_unroll.pipeline.away import PROCESS, SLURM, Away, Queue

HERE = "here"
PLACES = {"this window": HERE, "this machine, in a process of its own": PROCESS, "a Slurm queue": SLURM}
SOON_MS = 1000


class ElsewhereBox(QWidget):
    """The choice of a place, what a queue is asked for, and the runs that go on, were interrupted or have finished there."""

    taken_up = Signal(object)

    def __init__(self, remembered: Memory) -> None:
        super().__init__()
        self.found: list[Away] = []
        self.place = parts.explain(
            QComboBox(), "Run on",
            "Elsewhere a run goes on when napari is closed or crashes, and takes nothing of its memory or GPU; "
            "it is kept in a file while it goes.",
        )  # fmt: skip
        for title, name in PLACES.items():
            self.place.addItem(title, name)
        self.form = RecordForm(Queue)
        remembered.form("queue", self.form)
        self.queue_fold = parts.Fold("Queue", self.form)
        self.runs = parts.explain(QComboBox(), "Runs elsewhere", "Runs that were started elsewhere, and how they are.")
        self.take_up_button = parts.button(
            "Take up",
            self._take_up,
            "Watch it, go on with it where it was interrupted, or show what it made.",
            "take up",
        )
        self.runs_row = parts.row(self.runs, self.take_up_button, stretch=(1, 0))
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(parts.row(QLabel("Run on"), self.place, stretch=(0, 1)))
        column.addWidget(self.queue_fold)
        column.addWidget(self.runs_row)
        self._lister = Runner(self)
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.setInterval(SOON_MS)
        self._soon.timeout.connect(self.list_runs)
        self.place.currentIndexChanged.connect(lambda *_: self._follow())
        self._follow()
        self.runs_row.hide()
        self.list_runs()

    @property
    def is_here(self) -> bool:
        """Whether runs are carried out in this window."""
        return bool(self.place.currentData() == HERE)

    def queue(self) -> Queue | None:
        """What the queue is asked for, None for a process of this machine; raises ParameterError for a wrong field."""
        return self.form.value() if self.place.currentData() == SLURM else None

    def choose(self, place: str) -> None:
        """Choose one of PLACES by name."""
        self.place.setCurrentIndex(self.place.findData(place))

    def list_soon(self) -> None:
        """Look for them when what a run's end brings about is done."""
        self._soon.start()

    def list_runs(self) -> None:
        """Look for runs that were started elsewhere."""
        if not away.started():
            self._show([])
            return
        run = self._lister.start(single("runs elsewhere", lambda: [(a, away.condition(a)) for a in away.started()]))
        run.finished.connect(self._on_listed)

    def _on_listed(self, finished: Finished) -> None:
        if finished.result is not None:
            self._show(finished.result)

    def _show(self, found: list[tuple[Away, str]]) -> None:
        self.found = [one for one, _ in found]
        self.runs.clear()
        for one, condition in found:
            self.runs.addItem(f"{one.store.name}: {condition}")
        self.runs_row.setVisible(bool(found))

    def _take_up(self) -> None:
        if self.found:
            self.taken_up.emit(self.found[self.runs.currentIndex()].store)

    def _follow(self) -> None:
        self.queue_fold.setVisible(self.place.currentData() == SLURM)
