"""Ask for the place of an OME-Zarr store, which is a folder: Qt's own dialog would open one that is there, not choose it."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtWidgets import QDialog, QFileDialog, QMessageBox, QWidget

SUFFIX = ".ome.zarr"


class StoreDialog(QFileDialog):
    """A dialog that takes a store that exists for the file it is to its user, after asking whether to replace it."""

    def __init__(self, parent: QWidget | None, title: str, name: str) -> None:
        super().__init__(parent, title)
        self.setOptions(QFileDialog.Option.DontUseNativeDialog)
        self.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
        self.setNameFilter(f"OME-Zarr (*{SUFFIX})")
        self.selectFile(name)

    @property
    def path(self) -> Path:
        """What stands in the dialog."""
        return Path(self.selectedFiles()[0])

    def accept(self) -> None:
        if not self.path.name.endswith(SUFFIX):
            super().accept()  # a folder to look into, or a name that whoever asked will refuse
        elif not self.path.exists() or self._may_replace():
            QDialog.accept(self)

    def _may_replace(self) -> bool:
        question = f"{self.path.name} exists already. Replace it? It stays until the new volume is complete."
        return QMessageBox.question(self, self.windowTitle(), question) == QMessageBox.StandardButton.Yes


def ask_store(parent: QWidget | None, title: str, name: str = f"result{SUFFIX}") -> Path | None:
    """Where to keep a store; one that exists is to be replaced. None where the user wants none."""
    dialog = StoreDialog(parent, title, name)
    accepted = dialog.exec() == QDialog.DialogCode.Accepted
    path = dialog.path if accepted else None
    dialog.deleteLater()
    return path
