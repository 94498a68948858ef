"""Part of the Reconstruct dock: which method, with which parameters and weights. Reads the registry; runs nothing."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Signal

from napari_unroll.errors import ParameterError
from napari_unroll.gui import parts
from napari_unroll.gui.forms import RecordForm
from napari_unroll.gui.session import Session
from napari_unroll.methods import registry, weights
from napari_unroll.methods.problem import Method
from napari_unroll.pipeline.choose import Verdict
from napari_unroll.pipeline.verdicts import automatic
from napari_unroll.scan.scan import Scan

AUTO = "automatic"


class MethodBox(parts.Section):
    """The list of methods that apply to the scan, the form of the chosen one, and how methods compared.

    ``changed`` tells of another method or parameter, ``comparison_wanted`` that the user asks which one is best.
    """

    changed = Signal()
    comparison_wanted = Signal()

    def __init__(self, session: Session) -> None:
        super().__init__("Method")
        self._session = session
        self.params: RecordForm | None = None
        tip = "How the volume is found from the measurements; type a part of a name to search."
        self.list = parts.explain(parts.Searchable(), "Method", tip)
        self.list.setObjectName("method")
        self.summary, self.verdict = parts.Wrapped(), parts.Note()
        self.which_button = parts.button(
            "Which method for this scan?",
            self.comparison_wanted.emit,
            "Leave a few per cent of the measurements out, run the methods that apply, and see which foretells them best.",
        )
        self.params_fold = parts.Fold("Parameters of the method")
        self.put(self.list, self.summary, self.which_button, self.verdict, self.params_fold)
        self.list.currentIndexChanged.connect(self._on_method)
        session.weights_added.connect(self._list_weights)

    @property
    def chosen(self) -> Method | None:
        """The chosen method; None where it is *automatic* and there is no scan to choose for."""
        name, scan = self.list.currentData() or "auto", self._session.scan
        if name != "auto":
            return registry.get(name)
        return None if scan is None else registry.get(automatic(scan)[0].name)

    def choose(self, method: str) -> None:
        """Select a method by name; raises ParameterError for one that does not apply."""
        at = self.list.findData(method)
        if at < 0:
            known = ", ".join(str(self.list.itemData(i)) for i in range(self.list.count()))
            raise ParameterError(f"Expected one of the methods {known}; got {method!r}.")
        self.list.setCurrentIndex(at)

    def wishes(self) -> dict[str, Any]:
        """``method`` and ``params`` of Choices, the parameters that are changed; raises ParameterError for a wrong field."""
        method = self.chosen
        if method is None or self.params is None:
            return {"method": "auto", "params": {}}
        default = method.params()
        given = self.params.value().model_dump()
        return {"method": method.name, "params": {k: v for k, v in given.items() if v != getattr(default, k)}}

    def show_wishes(self, method: str, params: dict[str, Any]) -> None:
        """Fill the form with those of a stored result."""
        self.choose(method)
        if self.params is not None:
            self.params.set_value(registry.get(method).params(**params))

    def use_weights(self, path: str, method: str) -> None:
        """Choose ``method`` with these weights; raises ParameterError for a method that does not apply."""
        self.choose(method)
        assert self.params is not None
        self.params.fields["weights"].value = path
        self.params_fold.button.setChecked(True)

    def show_scan(self, scan: Scan | None) -> None:
        """Offer the methods that apply to this scan; what was chosen stays, where it does."""
        chosen = self.list.currentData()
        self.list.blockSignals(True)
        self.list.clear()
        self.list.addItem(AUTO if scan is None else f"{AUTO}: {automatic(scan)[0].title}", "auto")
        for method in registry.METHODS.values() if scan is None else registry.for_scan(scan):
            self.list.addItem(method.title, method.name)
        self.list.setCurrentIndex(max(0, self.list.findData(chosen)))
        self.list.blockSignals(False)
        self._on_method()

    def show_verdict(self, verdict: Verdict) -> None:
        """How methods compared; *automatic* may be another one now."""
        self.verdict.setText(_as_table(verdict))
        self.show_scan(self._session.scan)

    def _on_method(self, index: int = 0) -> None:
        if self.params is not None:
            self.params_fold.inner.removeWidget(self.params)
            self.params.deleteLater()
            self.params = None
        method = self.chosen
        if method is None:
            self.summary.setText("The strongest method that applies to the scan.")
            self.params_fold.hide()
            return
        self.summary.setText(method.summary)
        self.summary.setToolTip(method.source)
        self.params = RecordForm(method.params, choices={"weights": self._weights(method)})
        self.params.changed.connect(self.changed)
        self.params_fold.inner.addWidget(self.params)
        self.params_fold.setVisible(bool(self.params.fields))
        self.changed.emit()

    def _weights(self, method: Method) -> list[str]:
        """Shipped weights of a method, and all that were trained in this window."""
        scan = self._session.scan
        modality = None if scan is None else scan.modality
        shipped = [w for name in method.networks for w in weights.shipped_for(name, modality)]
        return ["auto", *(w.name for w in shipped), *map(str, self._session.weights)]

    def _list_weights(self) -> None:
        """Newly trained weights can be chosen; what was chosen stays."""
        method = self.chosen
        if method is not None and self.params is not None and "weights" in self.params.fields:
            self.params.fields["weights"].offer(self._weights(method))


def _as_table(verdict: Verdict) -> str:
    """The rows as rich text."""
    head = "<tr><th>method</th><th>run</th><th>left-out error</th><th>time</th><th>memory</th></tr>"
    cells = [
        f"<tr><td>{r.method}&nbsp;</td><td>{r.settings}&nbsp;</td><td>{r.error:.2%} ± {r.spread:.2%}&nbsp;</td>"
        f"<td>{r.seconds:.1f} s&nbsp;</td><td>{r.memory_mib:.0f} MiB</td></tr>"
        for r in verdict.rows
    ]
    return f"<table>{head}{''.join(cells)}</table>"
