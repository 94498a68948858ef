"""The form of the Train dock: what to train, on what, for which scanner, from where, for how long.

Everything ends in one TrainingPlan, which stays the single source of fields, limits and defaults; trains nothing.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, Literal

from magicgui.types import FileDialogMode
from magicgui.widgets import FileEdit, LineEdit
from pydantic import Field
from qtpy.QtCore import Signal
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QFormLayout, QWidget

from napari_unroll.errors import ParameterError, UnrollError
from napari_unroll.gui import parts, train_jobs
from napari_unroll.gui.forms import RecordForm, Words
from napari_unroll.gui.session import Session
from napari_unroll.gui.train_jobs import Order
from napari_unroll.methods import weights
from napari_unroll.methods.algorithms.network import NetworkConfig
from napari_unroll.methods.registry import trainable
from napari_unroll.pipeline import params
from napari_unroll.pipeline.devices import probe
from napari_unroll.record import Record
from napari_unroll.scan.scan import MODALITIES, Modality, Scan
from napari_unroll.training.options import TrainOptions
from napari_unroll.training.plan import Noise, TrainingPlan

KINDS: dict[str, Modality] = {"X-ray CT": "ct", "MRI": "mri", "Images": "image"}
THIS_SCAN = "this scan's scanner"
QUESTIONS = ("modality", "method", "volumes", "scans", "scanner", "initial")
"""Fields of the plan that are always in sight."""
EMPTY = {
    "volumes": "generated objects", "scans": "simulated", "scanner": "built-in scanners", "initial": "from scratch",
    "patch": "automatic",
}  # fmt: skip
"""What it means where a field is empty."""
ELSEWHERE = ("levels", "noise", "network", "options")
"""Fields of the plan that have a form of their own."""
DECIDED = ("iteration", "data_step.kind", "prior.kind", "prior.complex_valued")
"""Parts of a network that method and modality decide."""
PRESETS: dict[str, dict[str, Any]] = {"compact": {}, "paper": {"channels": (64, 128, 256, 512), "blocks": 4}}
"""Size of the prior: the record's own, and deepinv's DRUNet as the paper has it."""
UNLIMITED_STEPS = 10**7
"""The budget is in minutes; it alone ends a training."""
HOME = Path.home() / "napari-unroll"


class Effort(Record):
    """What a training may take."""

    time: int = Field(
        30,
        ge=1,
        le=60 * 24 * 14,
        description="Time for everything: making samples, training, measuring.",
        json_schema_extra={"unit": "min"},
    )
    patch: int | None = Field(
        None,
        ge=8,
        le=256,
        description="Edge of the patches that the network is trained on, thin slabs for MRI; empty: what suits the method.",
        json_schema_extra={"unit": "voxels"},
    )
    size: Literal["compact", "paper"] = Field("compact", description="Size of the network: the paper's takes a GPU.")
    device: str = Field("auto", description="Device that trains.")


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
        self._build_questions()
        self._build_advanced()
        self._asked: tuple[str, ...] = ()
        self._shipped: list[str] = []
        self.suggested = free_folder(HOME / "trained")
        self.out.value = self.suggested
        self.plan.changed.connect(self._on_plan)
        session.scan_changed.connect(self.show_scan)
        self.show_scan(session.scan)
        self._on_plan()

    def _build_questions(self) -> None:
        methods = {method.title: method.name for method in trainable()}
        others = tuple(set(TrainingPlan.model_fields) - set(QUESTIONS))
        offered: dict[str, Words] = {"modality": KINDS, "method": methods, "scanner": (THIS_SCAN,), "initial": ()}
        self.plan = RecordForm(TrainingPlan, skip=others, choices=offered)
        self.effort = RecordForm(Effort, choices={"device": ("auto", *(device.name for device in probe()))})
        self.out = _folder_line("Folder for samples, state and weights")
        for name, text in EMPTY.items():
            field = self.plan.fields.get(name) or self.effort.fields[name]
            field.native.line.setPlaceholderText(text)
        self._rows.addRow(self.plan)
        self._rows.addRow(self.effort)
        self._rows.addRow("Output", self.out.native)

    def showEvent(self, event: QShowEvent) -> None:
        """The labels of all forms are as wide as the widest, which the style tells when it is shown."""
        super().showEvent(event)
        labels = [*self.plan.labels, *self.effort.labels, self._rows.labelForField(self.out.native)]
        for label in labels:
            label.setMinimumWidth(max(other.sizeHint().width() for other in labels))

    def _build_advanced(self) -> None:
        self.more = RecordForm(TrainingPlan, skip=QUESTIONS + ELSEWHERE)
        tip = "Views (CT) or accelerations (MRI) of generated scanners, with commas."
        self.levels = LineEdit(tooltip=tip)
        self.levels.native.setPlaceholderText("automatic")
        parts.explain(self.levels.native, "Levels", tip)
        self.levels.changed.connect(self._check_levels)
        self.wrong_levels = parts.Note()
        self.network = RecordForm(NetworkConfig, skip=DECIDED)
        self.options = RecordForm(TrainOptions, skip=("n_steps", "max_seconds", "patch_size"))
        self.noise = RecordForm(Noise)
        row = QFormLayout()
        row.addRow("Levels", self.levels.native)
        self.advanced = parts.Fold("Advanced")
        self.advanced.inner.addLayout(row)
        self.advanced.inner.addWidget(self.wrong_levels)
        for title, form in (
            ("Objects", self.more), ("Network", self.network), ("Training", self.options), ("Noise", self.noise),
        ):  # fmt: skip
            self.advanced.inner.addWidget(parts.Fold(title, form))
        self._rows.addRow(self.advanced)

    # what is shown

    def show_scan(self, scan: Scan | None) -> None:
        """Another scan: train for its modality and its scanner."""
        if scan is not None:
            self.plan.fields["modality"].value = scan.modality
        self.plan.fields["scanner"].value = THIS_SCAN if scan is not None else None

    def _on_plan(self) -> None:
        """Another modality or method has other networks; rows that the answers make pointless are hidden."""
        answers = self.plan.raw()
        asked = (answers["modality"], answers["method"])
        if asked != self._asked:
            self._asked = asked
            suited = self._suited()
            self.network.set_value(suited.network)
            self.options.set_value(suited.options)
            self._list_shipped()
        self.plan.show_field("volumes", not answers["scans"])
        self.plan.show_field("scanner", not answers["scans"])
        from_scratch = not self.plan.raw()["initial"]
        self.effort.show_field("size", from_scratch)
        self.network.setEnabled(from_scratch)
        self._check_levels()
        self.changed.emit()

    def _check_levels(self) -> None:
        """Say while they are typed what is wrong with the levels of this modality."""
        modality, method = self._asked
        asked = {"modality": modality, "method": method} | self._levels()
        try:
            params.build(TrainingPlan, asked, "Please check")
        except ParameterError as error:
            self.wrong_levels.setText(str(error))
        else:
            self.wrong_levels.setText("")

    def _levels(self) -> dict[str, Any]:
        """The levels of the plan, where there are any."""
        words = [word.strip() for word in self.levels.value.split(",")]
        return {"levels": tuple(words)} if any(words) else {}

    def _suited(self) -> TrainingPlan:
        """What training takes for this modality and method where nothing is asked for."""
        modality, method = self._asked
        return TrainingPlan(modality=modality, method=method)  # type: ignore[call-arg]

    def _list_shipped(self) -> None:
        """Offer the shipped weights of this modality and method; those of another one are no longer chosen."""
        before, self._shipped = self._shipped, self.shipped()
        field = self.plan.fields["initial"]
        field.offer(self._shipped)
        if field.value in before and field.value not in self._shipped:
            field.value = None

    def shipped(self) -> list[str]:
        """Names of the shipped weights that fit modality and method."""
        modality, method = self._asked
        return [w.name for w in weights.shipped_for(method, modality)]

    def fine_tune(self) -> None:
        """This scan's scanner, shipped weights; raises ParameterError where there is no scan or no weights."""
        if self._session.scan is None:
            raise ParameterError("There is no scan to fine-tune on: open one in the Scan dock.")
        self.show_scan(self._session.scan)
        if not self.shipped():
            raise ParameterError("No weights for this modality and network are shipped; start from scratch instead.")
        self.plan.fields["scans"].value = None
        self.plan.fields["initial"].value = self.shipped()[0]

    # the answer

    def out_path(self) -> Path:
        """The output folder; raises ParameterError where none is named."""
        folder = path_in(self.out)
        if folder is None:
            raise ParameterError("Choose an output folder for samples and weights.")
        return folder

    def order(self) -> Order:
        """Plan, folder, device and scanner; raises UnrollError with one sentence where something is missing."""
        answers = self.plan.raw()
        for name in ("volumes", "scans"):
            answers[name] = _existing_folder(answers[name])
        if answers["scans"]:
            answers.update(volumes=None, scanner=None)
        scanner = self._scanner_scan() if answers["scanner"] == THIS_SCAN else None
        if scanner is not None:
            answers["scanner"] = None
        plan = params.build(TrainingPlan, self.more.raw() | answers | self._details(answers), "Please check")
        return Order(plan, self.out_path(), self.device, scanner)

    @property
    def device(self) -> str:
        """Where to train."""
        return str(self.effort.value().device)

    def _scanner_scan(self) -> Scan:
        """The session's scan, whose scanner is trained for."""
        scan = self._session.scan
        if scan is None:
            raise ParameterError(
                "There is no scan whose scanner could be used: open one, or leave the scanner empty for built-in ones."
            )
        if scan.modality != self._asked[0]:
            raise ParameterError(
                f"The scan is {MODALITIES[scan.modality]}; choose that modality, or leave the scanner empty."
            )
        return scan

    def _details(self, answers: dict[str, Any]) -> dict[str, Any]:
        """The parts of the plan that have forms of their own."""
        details: dict[str, Any] = {"noise": self.noise.value(), "options": self.training_options()} | self._levels()
        if not answers["initial"]:
            chosen = self.network.raw()
            details["network"] = chosen | {"prior": chosen["prior"] | self._preset()}
        return details

    def _preset(self) -> dict[str, Any]:
        """The size of the prior, as far as its kind has those fields."""
        known = type(self._suited().network.prior).model_fields
        return {name: value for name, value in PRESETS[self.effort.value().size].items() if name in known}

    def training_options(self) -> TrainOptions:
        """The loop's options with the time and the patch that were asked for."""
        effort: Effort = self.effort.value()
        depth, height, width = self._suited().options.patch_size
        size = (depth, height, width)
        if effort.patch is not None:
            size = (effort.patch if depth == height else depth, effort.patch, effort.patch)
        chosen: TrainOptions = self.options.value()
        asked = {"patch_size": size, "max_seconds": 60.0 * effort.time, "n_steps": UNLIMITED_STEPS}
        return chosen.model_copy(update=asked)

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


def path_in(line: FileEdit) -> Path | None:
    """What stands in the line, ~ being the user's own folder."""
    return Path(line.value).expanduser() if isinstance(line.value, Path) else None


def _folder_line(title: str) -> FileEdit:
    """A line for a folder with a button that browses."""
    made = FileEdit(mode=FileDialogMode.EXISTING_DIRECTORY, nullable=True, tooltip=title)
    made.choose_btn.text, made.choose_btn.tooltip = "…", title
    made.choose_btn.native.setMaximumWidth(32)
    parts.explain(made.line_edit.native, title, title)
    return made


def _existing_folder(text: str | None) -> str | None:
    """A folder of training data as its path; raises ParameterError where it is none."""
    if not text:
        return None
    folder = Path(text).expanduser()
    if not folder.is_dir():
        raise ParameterError(f"Expected a folder with training data; got {text!r}.")
    return str(folder)
