"""``napari-unroll evaluate`` and the benchmark that calls it."""

import json
import sys

import numpy as np
import pytest
from benchmarks import results
from typer.testing import CliRunner

from napari_unroll.cli.app import app
from napari_unroll.events import Measured, Started

WORDS = ["--task", "cone-beam", "--views", "6", "--n", "2", "--size", "16", "-m", "fdk", "-m", "cgls"]


def invoke(*words):
    return CliRunner().invoke(app, ["evaluate", *(str(w) for w in words)])


def test_table_and_files_tell_the_same(tmp_path):
    done = invoke(*WORDS, "--out", tmp_path)
    assert done.exit_code == 0, done.stderr
    found = json.loads((tmp_path / "results.json").read_text())
    first = found["rows"][0]
    keys = ("task", "views", "method", "data", "psnr", "ssim", "n", "seconds", "psnr_std", "ssim_std", "nrmse", "nrmse_std",
            "residual", "ood")  # fmt: skip
    assert all(key in first for key in keys)
    assert (first["method"], first["n"], len(found["scans"])) == ("fdk", 2, 4)
    assert f"{first['psnr']:.2f} ± {first['psnr_std']:.2f}" in (tmp_path / "results.md").read_text()
    assert (tmp_path / "results.md").read_text() in done.stdout
    assert not (tmp_path / "rows.jsonl").exists()  # results.json holds them all
    assert f"cgls: {found['scans'][-1]['psnr']:.2f} dB" in done.stderr


def test_a_kill_leaves_the_rows_so_far(tmp_path, monkeypatch):
    def killed(plan, stop):
        yield Started("evaluation", 1)
        yield Measured({"scan": "walnut 1", "method": "fdk", "psnr": 20.0}, "walnut 1, fdk: 20.00 dB")
        raise SystemExit(9)

    monkeypatch.setattr("napari_unroll.pipeline.evaluate.evaluate", killed)
    assert invoke("--out", tmp_path).exit_code == 9
    assert json.loads((tmp_path / "rows.jsonl").read_text())["psnr"] == 20.0


def test_a_folder_that_cannot_be_written_is_told_of_before_anything_runs(tmp_path):
    (tmp_path / "file").write_text("")
    done = invoke(*WORDS, "--out", tmp_path / "file" / "out")
    assert done.exit_code == 2
    assert "cannot be written" in done.stderr


def test_measured_volumes_are_scanned_at_the_sizes_asked_for(tmp_path):
    np.save(tmp_path / "foam.npy", np.random.default_rng(0).random((14, 14, 14), np.float32))
    words = ["--volumes", tmp_path, "--volume-sizes", "12,14", "--n", "0", *WORDS[:4], "-m", "fdk"]
    done = invoke(*words, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.stderr
    rows = json.loads((tmp_path / "out" / "results.json").read_text())["rows"]
    assert [r["data"] for r in rows] == ["foam at 12 voxels", "foam at 14 voxels"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--views", "many"], "with commas"),
        (["--volume-sizes", "big"], "with commas"),
        (["--views", "30.5"], "views"),
        (["--task", "spiral"], "task"),
        (["nowhere.h5"], "no file"),
        (["--volumes", "nowhere"], "no folder"),
        (["-m", "fkd"], "fkd"),
    ],
)
def test_what_is_wrong_is_one_sentence_and_code_2(words, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = invoke("--size", "16", *words)
    assert done.exit_code == 2
    assert told in done.stderr
    assert not (tmp_path / "evaluation").exists()


def test_the_benchmark_is_a_call_of_it_and_the_scan_of_full_size(tmp_path, monkeypatch):
    seen = []

    def evaluated(plan, out):
        seen.append((plan, out))
        (out / "results.md").write_text("# Results\n")

    monkeypatch.setattr(results, "run_evaluation", evaluated)
    monkeypatch.setattr(sys, "argv", ["results.py", "--quick", "--out", str(tmp_path)])
    results.main()
    (plan, out), *_ = seen
    assert (plan.size, plan.n, plan.task, out) == (32, 1, "all", tmp_path)
    section = results.full_size(json.loads(results.LARGE.read_text()))
    assert (tmp_path / "results.md").read_text() == "# Results\n" + section
    assert (results.ROOT / "docs" / "results.md").read_text().endswith(section)
