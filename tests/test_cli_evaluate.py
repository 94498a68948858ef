"""``napari-unroll evaluate`` and the benchmark that calls it."""

import json
import sys

import pytest
from benchmarks import results
from typer.testing import CliRunner

from napari_unroll.cli.app import app

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


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--views", "many"], "with commas"),
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


def test_the_benchmark_is_a_call_of_it(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(results, "run_evaluation", lambda plan, out: seen.append((plan, out)))
    monkeypatch.setattr(sys, "argv", ["results.py", "--quick", "--out", str(tmp_path)])
    results.main()
    (plan, out), *_ = seen
    assert (plan.size, plan.n, plan.task, out) == (32, 1, "all", tmp_path)
