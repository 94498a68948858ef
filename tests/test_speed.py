"""The table of ratios at its smallest: every row runs, both sides compute the same, and a page comes of it."""

import json

from benchmarks import speed


def test_every_row_compares_what_is_equal(tmp_path, monkeypatch):
    monkeypatch.setattr(speed, "REPEATS", 1)
    speed.main(["--quick", "--out", str(tmp_path)])
    rows = json.loads((tmp_path / "speed.json").read_text())["rows"]
    assert len(rows) == len(speed.ROWS)
    assert all(row["ratio"] > 0 for row in rows)
    assert all(row["difference"] < (1e-2 if "steps" in row["name"] else 1e-6) for row in rows), rows
    assert (tmp_path / "speed.md").read_text().count("\n|") == len(rows) + 2
