"""What the docks' forms held when the last session ended, kept beside napari's own settings.

Only what differs from the defaults is kept; what no longer fits a record is forgotten. Knows records and forms, no docks.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from qtpy.QtCore import QSettings

from napari_unroll.errors import ParameterError
from napari_unroll.gui.forms import RecordForm
from napari_unroll.pipeline import params

FILE = "napari-unroll-docks.ini"


class Memory:
    """The remembered forms of one dock; ``reset`` brings back their defaults."""

    def __init__(self, dock: str) -> None:
        path = settings_file()
        self._store = None if path is None else QSettings(str(path), QSettings.Format.IniFormat)
        self._dock = dock
        self._resets: list[Callable[[], None]] = []

    def form(self, name: str, form: RecordForm, default: BaseModel | None = None) -> None:
        """Show what was kept of a form over ``default``, and keep what changes."""
        start = default or form.record()
        known = form.fields.keys()
        kept = {k: v for k, v in self._kept(name, {}).items() if k in known}
        try:
            form.set_value(params.build(form.record, {**start.model_dump(), **kept}))
        except ParameterError:
            form.set_value(start)
        usual = start.model_dump()

        def keep() -> None:
            changed = {k: v for k, v in form.raw().items() if k in known and v != usual[k]}
            self._keep(name, changed)

        form.changed.connect(keep)
        self._resets.append(lambda: form.set_value(start))

    @property
    def has_any(self) -> bool:
        """Whether anything is remembered here at all."""
        return bool(self._resets)

    def reset(self) -> None:
        """Defaults everywhere, and nothing kept."""
        for put_back in self._resets:
            put_back()
        if self._store is not None:
            self._store.remove(self._dock)

    def _kept(self, name: str, otherwise: dict[str, Any]) -> dict[str, Any]:
        text = "" if self._store is None else str(self._store.value(f"{self._dock}/{name}", ""))
        try:
            return params.parse_yaml(text) if text else otherwise
        except ParameterError:
            return otherwise

    def _keep(self, name: str, values: dict[str, Any]) -> None:
        if self._store is None:
            return
        if values:
            self._store.setValue(f"{self._dock}/{name}", params.one_line(values))
        else:
            self._store.remove(f"{self._dock}/{name}")


def settings_file() -> Path | None:
    """The file beside napari's settings; None where napari keeps none, as in tests."""
    from napari.settings import get_settings

    path = get_settings().config_path
    return Path(path).with_name(FILE) if path else None
