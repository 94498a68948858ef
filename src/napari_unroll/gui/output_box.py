"""Part of the Reconstruct dock: what leaves it, commands to the clipboard and the result to a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QApplication, QFileDialog, QVBoxLayout, QWidget

from napari_unroll.errors import UnrollError
from napari_unroll.events import Finished
from napari_unroll.gui import jobs, parts
from napari_unroll.gui.layers import RECORD
from napari_unroll.gui.reconstructions import Reconstructions
from napari_unroll.gui.session import Session
from napari_unroll.io import writers
from napari_unroll.pipeline.plan import Plan
from napari_unroll.scan.scan import Scan

NO_SOURCE = (
    "The scan of this result was in no file, so no command can make it again; save the scan before the next run."
)


class OutputBox(QWidget):
    """``planned`` tells what Run would do now, and raises UnrollError with the reason where that is nothing."""

    said = Signal(str, str)
    """A sentence and its kind (see ``parts.Message``)."""

    def __init__(self, session: Session, runs: Reconstructions, planned: Callable[[], Plan]) -> None:
        super().__init__()
        self._session, self._runs, self._planned = session, runs, planned
        now = "what Run would do now, a preview about the slice that is shown now"
        self.copy_button = parts.button("Copy as command", self.copy_command, f"The line that does in a shell {now}.")
        self.python_button = parts.button("Copy as Python", self.copy_python, f"The lines that do in a script {now}.")
        self.result_button = parts.button(
            "Copy result's command", self.copy_result,
            "The line that made the result whose layer is selected, else the last one, whatever is chosen now.",
        )  # fmt: skip
        self.save_button = parts.button("Save result…", self._ask_save, "OME-Zarr, TIFF or NPY, with its provenance.")
        self.save_button.setEnabled(False)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(5)
        column.addWidget(parts.row(self.copy_button, self.python_button, stretch=(1, 1)))
        column.addWidget(parts.row(self.save_button, self.result_button, stretch=(1, 1)))
        runs.ended.connect(lambda *_: self.save_button.setEnabled(runs.result is not None))

    def copy_command(self) -> None:
        """Put the command line of what Run would do on the clipboard."""
        self._copy(lambda plan: plan.command)

    def copy_python(self) -> None:
        """Put the lines of Python of what Run would do on the clipboard."""
        self._copy(lambda plan: plan.script)

    def copy_result(self) -> None:
        """Put the command line that made a result on the clipboard."""
        record = self._record()
        if "command" not in record:
            self.said.emit("There is no result yet: run a reconstruction, or select the layer of a result.", "warning")
        elif not record["scan"]["source"]:
            self.said.emit(NO_SOURCE, "warning")
        else:
            self._put(record["command"])

    def _record(self) -> Mapping[str, Any]:
        """How the result came about whose layer is selected, the last one where none is; empty where there is none."""
        layer, last = self._session.viewer.layers.selection.active, self._runs.result
        told = {} if layer is None else layer.metadata.get(RECORD)
        return told or ({} if last is None else last.record)

    def _put(self, text: str) -> None:
        QApplication.clipboard().setText(text)
        self.said.emit(f"Copied: {text}", "info")

    def _copy(self, text: Callable[[Plan], str]) -> None:
        """Copy what does the run; a scan that is in no file is saved first."""
        try:
            plan = self._planned()
        except UnrollError as error:
            self.said.emit(str(error), "warning")
            return
        scan = self._session.scan
        assert scan is not None
        if scan.provenance.source:
            self._put(text(plan))
        elif path := self._ask_scan_path():
            self.save_scan(path, scan, lambda: self._copy(text))

    def _ask_scan_path(self) -> Path | None:
        """Where to keep a scan that came from a layer, None where the user wants no file."""
        path, _ = QFileDialog.getSaveFileName(
            self, "This scan is in no file yet; save it, so that it can be read again", "scan.h5", "Scans (*.h5)"
        )
        return Path(path) if path else None

    def save_scan(self, path: Path, scan: Scan, then: Callable[[], None]) -> None:
        """Write the scan to a file, and then go on with it."""
        run = self._session.runner.start(jobs.save_scan(path, scan), f"saving {path.name}")
        run.finished.connect(lambda finished: self._on_scan_saved(finished, then))

    def _on_scan_saved(self, finished: Finished, then: Callable[[], None]) -> None:
        if finished.result is None:
            self.said.emit(*parts.ending(finished))
            return
        self._session.scan_saved(finished.result)
        then()

    def _ask_save(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Save the result", "result.tif", "Volumes (*.tif *.npy *.ome.zarr)")
        if path:
            self.save(Path(path))

    def save(self, path: Path) -> None:
        """Write the last result with its provenance."""
        result = self._runs.result
        if result is None:
            return
        try:
            writers.write(path, np.asarray(result.values), result.grid, result.record, overwrite=True)
        except UnrollError as error:
            self.said.emit(str(error), "error")
            return
        self.said.emit(f"Saved {path.name}.", "good")
