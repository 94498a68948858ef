"""The form of the Train dock: what to train, on what, for which scanner, from where, for how long.

Everything ends in one TrainingPlan, which stays the single source of fields, limits and defaults; trains nothing.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from magicgui.types import FileDialogMode
from magicgui.widgets import FileEdit
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QFormLayout, QLineEdit, QSpinBox, QWidget

from napari_unroll.errors import ParameterError, UnrollError
from napari_unroll.gui import parts, train_jobs
from napari_unroll.gui.forms import RecordForm
from napari_unroll.gui.preferences import preferences
from napari_unroll.gui.session import Session
from napari_unroll.gui.train_jobs import Order
from napari_unroll.methods import weights
from napari_unroll.methods.algorithms.network import NetworkConfig
from napari_unroll.methods.registry import get, trainable
from napari_unroll.pipeline import params
from napari_unroll.pipeline.devices import probe
from napari_unroll.scan.scan import MODALITIES, Modality, Scan
from napari_unroll.training.options import TrainOptions
from napari_unroll.training.plan import DEFAULT_METHOD, Noise, TrainingPlan

KINDS: dict[str, Modality] = {"X-ray CT": "ct", "MRI": "mri", "Images": "image"}
GENERATED, VOLUMES, SCANS = "Generated objects", "Folder of volumes", "Scans with their truth"
BUILT_IN, THIS_SCAN = "Built-in scanners", "This scan's scanner"
SCRATCH, FROM_FILE = "Scratch", "File…"
DECIDED = ("iteration", "data_step.kind", "prior.kind", "prior.complex_valued")
"""Parts of a network that method and modality decide."""
PRESETS: dict[str, dict[str, Any]] = {"Compact": {}, "Paper": {"channels": (64, 128, 256, 512), "blocks": 4}}
"""Size of the prior: the record's own, and deepinv's DRUNet as the paper has it."""
UNLIMITED_STEPS = 10**7
"""The budget is in minutes; it alone ends a training."""
FOLDER = FileDialogMode.EXISTING_DIRECTORY
HOME = Path.home() / "napari-unroll"


def path_line(title: str, mode: FileDialogMode = FOLDER) -> FileEdit:
    """A line for a path with a button that browses."""
    made = FileEdit(mode=mode, nullable=True, filter=None if mode is FOLDER else "*.safetensors", tooltip=title)
    made.choose_btn.text, made.choose_btn.tooltip = "…", title
    made.choose_btn.native.setMaximumWidth(32)
    line: QLineEdit = made.line_edit.native
    line.setPlaceholderText(title)
    parts.explain(line, title, title)
    return made


def path_in(line: FileEdit) -> Path | None:
    """What stands in the line, ~ being the user's own folder."""
    return Path(line.value).expanduser() if isinstance(line.value, Path) else None


def words(items: Any, tip: str, name: str) -> QComboBox:
    """A list of words."""
    box = QComboBox()
    box.addItems(list(items))
    parts.explain(box, tip.rstrip("."), tip)
    box.setObjectName(name)
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    return box


class TrainForm(QWidget):
    """Widgets in the order of the questions; ``order()`` is the checked answer."""

    changed = Signal()

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._rows = QFormLayout(self)
        self._rows.setContentsMargins(0, 0, 0, 0)
        self._rows.setVerticalSpacing(4)
        self._rows.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self._build_what()
        self._build_data()
        self._build_size()
        self._build_advanced()
        self.suggested = free_folder(HOME / "trained")
        self.out.value = self.suggested
        session.scan_changed.connect(self.show_scan)
        self.show_scan(session.scan)
        self._show_needed()

    def _build_what(self) -> None:
        self.modality = words(KINDS, "What is measured.", "modality")
        self.method = words((m.title for m in trainable()), "Method whose network is trained.", "method")
        self.method.setCurrentText(get(DEFAULT_METHOD).title)
        self.modality.currentIndexChanged.connect(self._on_modality)
        self.method.currentIndexChanged.connect(self._on_method)
        self._rows.addRow("Modality", self.modality)
        self._rows.addRow("Method", self.method)

    def _build_data(self) -> None:
        self.data = words((GENERATED, VOLUMES, SCANS), "Where the true volumes come from.", "data")
        self.folder = path_line("Folder with the training data")
        self.scanner = words((BUILT_IN, THIS_SCAN), "The scanner whose measurements are simulated.", "scanner")
        self.start = words((SCRATCH,), "Weights to begin with; fine-tuning needs far less time.", "initial")
        self.file = path_line("Weights to start from", mode=FileDialogMode.EXISTING_FILE)
        for box in (self.data, self.scanner, self.start):
            box.currentIndexChanged.connect(self._show_needed)
        self._rows.addRow("Data", self.data)
        self._rows.addRow("Folder", self.folder.native)
        self._rows.addRow("Scanner", self.scanner)
        self._rows.addRow("Start from", self.start)
        self._rows.addRow("Weights", self.file.native)

    def _build_size(self) -> None:
        self.minutes = _count(30, 1, 60 * 24 * 14, " min", "Time for everything: making samples, training, measuring.")
        default = TrainOptions().patch_size[0]
        self.patch = _count(
            default, 8, 256, " voxels", "Edge of the patches that the network is trained on; thin slabs for MRI."
        )
        self.patch.setSingleStep(8)
        self.preset = words(PRESETS, "Size of the network: the paper's takes a GPU.", "preset")
        self.out = path_line("Folder for samples, state and weights")
        self._rows.addRow("Time", self.minutes)
        self._rows.addRow("Patch", self.patch)
        self._rows.addRow("Size", self.preset)
        self._rows.addRow("Output", self.out.native)

    def _build_advanced(self) -> None:
        elsewhere = (
            "modality", "method", "levels", "scanner", "volumes", "scans", "noise", "network", "options", "initial",
        )  # fmt: skip
        self.plan = RecordForm(TrainingPlan, skip=elsewhere)
        self.levels = QLineEdit()
        self.levels.setPlaceholderText("automatic")
        parts.explain(self.levels, "Levels", "Views (CT) or accelerations (MRI) of generated scanners, with commas.")
        self.device = words(("auto", *(d.name for d in probe())), "Device that trains.", "device")
        self.device.setCurrentText(preferences().device)
        self.network = RecordForm(NetworkConfig, skip=DECIDED)
        self.options = RecordForm(TrainOptions, skip=("n_steps", "max_seconds", "patch_size"))
        self.noise = RecordForm(Noise)
        row = QFormLayout()
        row.addRow("Levels", self.levels)
        row.addRow("Device", self.device)
        self.advanced = parts.Fold("Advanced")
        self.advanced.inner.addLayout(row)
        for title, form in (
            ("Objects", self.plan), ("Network", self.network), ("Training", self.options), ("Noise", self.noise),
        ):  # fmt: skip
            self.advanced.inner.addWidget(parts.Fold(title, form))
        self._rows.addRow(self.advanced)

    # what is shown

    def show_scan(self, scan: Scan | None) -> None:
        """Another scan: train for its modality and its scanner."""
        if scan is not None:
            self.modality.setCurrentIndex(list(KINDS.values()).index(scan.modality))
        self.scanner.setCurrentText(THIS_SCAN if scan is not None else BUILT_IN)
        self._on_modality()

    def _on_modality(self, *_: Any) -> None:
        self.patch.setValue(self._suited().options.patch_size[-1])
        self._on_method()

    def _on_method(self, *_: Any) -> None:
        suited = self._suited()
        self.network.set_value(suited.network)
        self.options.set_value(suited.options)
        self._list_starts()

    def _suited(self) -> TrainingPlan:
        """What training takes for this modality and method where nothing is asked for."""
        return TrainingPlan(modality=KINDS[self.modality.currentText()], method=self.method_name())  # type: ignore[call-arg]

    def method_name(self) -> str:
        """Name of the chosen method."""
        return trainable()[self.method.currentIndex()].name

    def _list_starts(self, *_: Any) -> None:
        """Shipped weights of this modality and method."""
        chosen = self.start.currentText()
        self.start.clear()
        self.start.addItems([SCRATCH, *self.shipped(), FROM_FILE])
        self.start.setCurrentText(chosen)
        self._show_needed()

    def shipped(self) -> list[str]:
        """Names of the shipped weights that fit modality and method."""
        modality = KINDS[self.modality.currentText()]
        return [w.name for w in weights.shipped_for(self.method_name(), modality)]

    def _show_needed(self, *_: Any) -> None:
        """Hide the rows that the answers above make pointless."""
        scans = self.data.currentText() == SCANS
        self._rows.setRowVisible(self.folder.native, self.data.currentText() != GENERATED)
        self._rows.setRowVisible(self.scanner, not scans)
        self._rows.setRowVisible(self.file.native, self.start.currentText() == FROM_FILE)
        self._rows.setRowVisible(self.preset, self.start.currentText() == SCRATCH)
        self.network.setEnabled(self.start.currentText() == SCRATCH)
        self.changed.emit()

    def fine_tune(self) -> None:
        """This scan's scanner, shipped weights; raises ParameterError where there is no scan or no weights."""
        if self._session.scan is None:
            raise ParameterError("There is no scan to fine-tune on: open one in the Scan dock.")
        self.show_scan(self._session.scan)
        if not self.shipped():
            raise ParameterError("No weights for this modality and network are shipped; start from scratch instead.")
        if self.data.currentText() == SCANS:
            self.data.setCurrentText(GENERATED)
        self.scanner.setCurrentText(THIS_SCAN)
        self.start.setCurrentText(self.shipped()[0])

    # the answer

    def out_path(self) -> Path:
        """The output folder; raises ParameterError where none is named."""
        folder = path_in(self.out)
        if folder is None:
            raise ParameterError("Choose an output folder for samples and weights.")
        return folder

    def order(self) -> Order:
        """Plan, folder, device and scanner; raises UnrollError with one sentence where something is missing."""
        plan = params.build(TrainingPlan, self._answers(), "Please check")
        return Order(plan, self.out_path(), self.device.currentText(), self._scanner_scan())

    def _scanner_scan(self) -> Scan | None:
        """The session's scan where it is the scanner."""
        if self.data.currentText() == SCANS or self.scanner.currentText() != THIS_SCAN:
            return None
        scan = self._session.scan
        if scan is None:
            raise ParameterError(
                "There is no scan whose scanner could be used: open one, or take the built-in scanners."
            )
        if scan.modality != KINDS[self.modality.currentText()]:
            raise ParameterError(
                f"The scan is {MODALITIES[scan.modality]}; choose that modality or the built-in scanners."
            )
        return scan

    def _answers(self) -> dict[str, Any]:
        answers: dict[str, Any] = self.plan.raw() | {
            "modality": KINDS[self.modality.currentText()],
            "method": self.method_name(),
            "noise": self.noise.value(),
            "options": self.training_options(),
            "initial": self._initial(),
        }
        if self.levels.text().strip():
            answers["levels"] = tuple(part.strip() for part in self.levels.text().split(","))
        if answers["initial"] is None:
            chosen = self.network.raw()
            answers["network"] = chosen | {"prior": chosen["prior"] | self._preset()}
        return answers | self._folder_answer()

    def _preset(self) -> dict[str, Any]:
        """The size of the prior, as far as its kind has those fields."""
        known = type(self._suited().network.prior).model_fields
        return {name: value for name, value in PRESETS[self.preset.currentText()].items() if name in known}

    def training_options(self) -> TrainOptions:
        """The loop's options with the budget and the patch of the dock."""
        edge, seconds = self.patch.value(), 60.0 * self.minutes.value()
        depth, height, _ = self._suited().options.patch_size
        size = (edge if depth == height else depth, edge, edge)
        chosen: TrainOptions = self.options.value()
        return chosen.model_copy(update={"patch_size": size, "max_seconds": seconds, "n_steps": UNLIMITED_STEPS})

    def _initial(self) -> str | None:
        chosen = self.start.currentText()
        if chosen == FROM_FILE and path_in(self.file) is None:
            raise ParameterError("Choose the file with the weights to start from, or start from scratch.")
        return {SCRATCH: None, FROM_FILE: str(path_in(self.file))}.get(chosen, chosen)

    def _folder_answer(self) -> dict[str, str]:
        source = self.data.currentText()
        if source == GENERATED:
            return {}
        folder = path_in(self.folder)
        if folder is None or not folder.is_dir():
            raise ParameterError(f"Expected a folder with training data; got {str(folder or 'nothing')!r}.")
        return {"volumes" if source == VOLUMES else "scans": str(folder)}

    def fresh_folder(self) -> None:
        """Where the dock's own suggestion is taken, suggest the next; raises UnrollError for a folder of the user's."""
        if not train_jobs.is_taken(self.out_path()):
            return
        if self.out_path() != self.suggested:
            raise UnrollError("This folder holds a training: press Resume to go on with it, or choose another folder.")
        self.suggested = free_folder(self.suggested)
        self.out.value = self.suggested


def free_folder(wish: Path) -> Path:
    """``wish``, numbered if a training was begun there."""
    numbered = (wish.with_name(f"{wish.name}-{i}") for i in itertools.count(2))
    return next(p for p in itertools.chain([wish], numbered) if not train_jobs.is_taken(p))


def _count(value: int, low: int, high: int, suffix: str, tip: str) -> QSpinBox:
    box = QSpinBox()
    box.setRange(low, high)
    box.setValue(value)
    box.setSuffix(suffix)
    parts.explain(box, tip.rstrip("."), tip)
    return box
