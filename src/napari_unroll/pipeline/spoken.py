"""A run in words that repeat it: one line for a shell, some for Python. Everything that changes what is computed is in them.

``choices`` is the record of the user's wishes (``plan.Choices``), which this module knows by its fields only.
"""

from __future__ import annotations

import shlex
from typing import Any

from pydantic import BaseModel

from napari_unroll.pipeline.edits import edits_of
from napari_unroll.pipeline.params import as_text, changed, to_options
from napari_unroll.scan.scan import Scan

OUT = "result.ome.zarr"
UNSAVED = "FILE"
"""In place of a scan that is in no file."""
SETTINGS = ("patch_size", "overlap", "device", "precision", "max_memory_gb", "normal")
FIT_IN_A_RUN = {"n_test": 0}
"""Options of a fit that a run changes unless told: nobody looks at its errors."""
SCRIPT = """\
from napari_unroll.io.writers import write
from napari_unroll.pipeline.edits import Edits, edited
from napari_unroll.pipeline.plan import Choices, resolve
from napari_unroll.pipeline.run import run
from napari_unroll.pipeline.sources import open_scan

scan = edited(open_scan({source!r}, {options!r}), Edits({edits}))
plan = resolve(Choices({choices}), scan)
*_, finished = run(plan, scan)
write({out!r}, finished.result, plan.grid)
"""


def command(choices: BaseModel, method: str, params: BaseModel, scan: Scan) -> str:
    """The line that repeats a run from a shell (*Copy as command*)."""
    words = ["napari-unroll", "reconstruct", scan.provenance.source or UNSAVED, "--method", method]
    for name, value in scan.provenance.options:
        words += ["--option", f"{name}={as_text(value)}"]
    words += to_options(edits_of(scan), "--edit")
    words += to_options(params)
    for name, value in _settings(choices).items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    for name, value in choices.model_dump()["fit"].items():
        words += ["--fit", f"{name}={as_text(value)}"]
    if roi := choices.model_dump()["roi"]:
        words += ["--roi", ",".join(map(str, roi))]
    return shlex.join([*words, "--out", OUT])


def script(choices: BaseModel, method: str, params: BaseModel, scan: Scan) -> str:
    """The lines of Python that repeat a run (*Copy as Python*)."""
    wishes: dict[str, Any] = {"method": method, "params": changed(params), **_settings(choices)}
    wishes |= {name: value for name in ("fit", "roi") if (value := choices.model_dump()[name])}
    return SCRIPT.format(
        source=scan.provenance.source or UNSAVED, options=dict(scan.provenance.options), out=OUT,
        edits=_arguments(dict(scan.provenance.edits)), choices=_arguments(wishes),
    )  # fmt: skip


def changed_fit(options: BaseModel) -> dict[str, Any]:
    """The options of a fit that a run has to be told, its form apart."""
    usual = type(options)(**FIT_IN_A_RUN)
    return {k: v for k, v in options.model_dump().items() if k != "form" and v != getattr(usual, k)}


def _settings(choices: BaseModel) -> dict[str, Any]:
    """What is not left to the machine."""
    return {name: getattr(choices, name) for name in SETTINGS if getattr(choices, name) != "auto"}


def _arguments(values: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in values.items())
