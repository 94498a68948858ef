"""The table of ratios at its smallest: every row runs, both sides compute the same, and a page comes of it."""

import importlib
import json
from pathlib import Path


def test_every_row_compares_what_is_equal(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "benchmarks"))
    speed, speed_row = importlib.import_module("speed"), importlib.import_module("speed_row")
    monkeypatch.setattr(speed_row, "REPEATS", 1)
    speed.main(["--quick", "--out", str(tmp_path)])
    rows = json.loads((tmp_path / "speed.json").read_text())["rows"]
    assert len(rows) == len(speed.ROWS)
    assert all(row["ratio"] > 0 for row in rows)
    compared = [row for row in rows if row["difference"] is not None]
    more = {"data-step", "training step", "start", "wavelets"} & speed.ROWS.keys()  # than the rival does
    assert len(compared) == len(rows) - len(more)
    assert all(row["difference"] < row["close"] for row in compared), compared
    assert (tmp_path / "speed.md").read_text().count("\n|") == len(rows) + 2
