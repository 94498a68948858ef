"""How long the window lets its user wait: for a dock, a picture, a run, after Cancel, at its end, while patches stream.

Every figure comes from a real window in a process of its own (``gui_window.py``). Docks are opened from the menu after
the window has drawn. Cancel is pressed at several moments of every stage of the docks, of every method that applies to a
sample, and of a run into a file; a window is closed in the middle of some. The work has ended when no worker's thread is
left, and, after closing, when the process rests; a window without work says what napari itself takes for that.

    python benchmarks/gui.py [--only open run cancel close stream] [--size 32] [--views 50] [--json FILE]

``run`` makes every method at two sizes, ``--size`` and one and a half times that; the first calibrates the times of the second.
``stream`` is ``streaming.py``. ``--json`` keeps what an earlier call wrote of the other parts.
Opens under a virtual screen where there is no display. ``--size 128 --views 180`` is a scan of everyday size.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from napari_unroll.cli.demo import virtual_screen
from napari_unroll.environment import machine

DOCKS = ("Scan", "Normal operator", "Reconstruct", "Train", "Compare")
CLOSED_IN = ("", "fit", "tv-fista", "unrolled-pgd", "training")
"""Works in which the window is closed; the first is none, which says what libraries take by themselves."""
SCRIPT = Path(__file__).with_name("gui_window.py")


def child(what: str, folder: Path, **arguments: Any) -> tuple[Any, float]:
    """What a process of its own measures, and the time at which it had ended; raises where it fails."""
    settings = {
        "BENCHMARK_FOLDER": str(folder),
        "NAPARI_UNROLL_CACHE": str(folder),
        "NAPARI_CONFIG": str(folder / "n.yaml"),
    }
    platform = {"QT_QPA_PLATFORM": "xcb"} if sys.platform.startswith("linux") else {}
    command = [sys.executable, str(SCRIPT), what, json.dumps(arguments)]
    done = subprocess.run(
        command, env={**os.environ, **settings, **platform}, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1]), time.time()


def opening(given: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Click → dock on screen → dock ready, each dock as the first."""
    others = (*DOCKS[1:], DOCKS[0])
    return [child("open", folder, name=name, other=other)[0] for name, other in zip(DOCKS, others, strict=True)]


def running(given: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Run → first picture; foretold and taken time."""
    common = {"sizes": [given.size, given.size * 3 // 2], "views": given.views, "only": given.work}
    return [row for sample in given.samples for row in child("run", folder, sample=sample, **common)[0]]


def cancelling(given: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Cancel → idle."""
    common = {"size": given.size, "views": given.views, "moments": given.moments, "only": given.work}
    return [row for sample in given.samples for row in child("cancel", folder, sample=sample, **common)[0]]


def closing(given: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Window closed → the work has ended, → the process is idle, → it is gone."""
    rows = []
    for sample in given.samples:
        for work in [given.work] if given.work else CLOSED_IN:
            common = {"sample": sample, "size": given.size, "views": given.views, "after": max(given.moments)}
            row, ended = child("close", folder, work=work, **common)
            row["gone_s"] = ended - row.pop("closed")
            rows.append(row)
    return rows


def streaming(given: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """The longest standstill while patches stream into 256³ and 512³ voxels, in 2-D and 3-D."""
    found = folder / "streaming.json"
    subprocess.run([sys.executable, str(SCRIPT.with_name("streaming.py")), "--json", str(found)], check=True)
    return [row for row in json.loads(found.read_text())["rows"] if row["how"] == "stream"]


PARTS = {"open": opening, "run": running, "cancel": cancelling, "close": closing, "stream": streaming}


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as text, columns aligned."""
    cells = [list(rows[0])] + [[f"{v:.2f}" if isinstance(v, float) else str(v) for v in row.values()] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in cells)


def worst(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The largest of every figure in seconds or milliseconds."""
    names = [name for name in rows[0] if name.endswith(("_s", "_ms")) and name != "after_s"]
    return {name: max(row[name] for row in rows) for name in names}


def main(words: list[str] | None = None) -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--size", type=int, default=32, help="voxels along an edge")
    parser.add_argument("--views", type=int, default=50, help="views of the cone-beam scan")
    parser.add_argument("--samples", nargs="*", default=["cone-beam", "multi-coil"])
    parser.add_argument("--work", default="", help="one stage or method only")
    parser.add_argument(
        "--moments", type=float, nargs="*", default=[0.05, 0.2, 0.5, 1.0, 2.0, 4.0], help="seconds after the start"
    )
    parser.add_argument("--note", default="", help="what else to say of the machine, such as that others used it")
    parser.add_argument("--json", type=Path, help="keep the figures here")
    given = parser.parse_args(words)
    common = {"machine": machine(), "size": given.size, "views": given.views, "note": given.note}
    found: dict[str, Any] = json.loads(given.json.read_text()) if given.json and given.json.exists() else {}
    with virtual_screen(), tempfile.TemporaryDirectory() as folder:
        for part in given.only:
            rows = PARTS[part](given, Path(folder))
            found[part] = {**common, "rows": rows, "worst": worst(rows)}
            print(f"\n{part}\n{table(rows)}\nworst: {found[part]['worst']}", flush=True)
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
