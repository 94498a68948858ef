"""Benchmarks begin and end: each is imported with all that it needs, and what it measured can be written."""

import importlib
import json
from pathlib import Path

import pytest

from napari_unroll.methods.weights import find

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def _beside_each_other(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))


@pytest.mark.parametrize("name", sorted(path.stem for path in BENCHMARKS.glob("*.py")))
def test_every_benchmark_is_imported(name):
    assert importlib.import_module(name).__doc__


def test_empty_cells_are_null():
    normal = importlib.import_module("normal")
    report = normal.without_nan(json.dumps({"fits": [{"error": float("nan"), "seconds": 1.5}]}))
    assert report == {"fits": [{"error": None, "seconds": 1.5}]}
    assert json.loads(json.dumps(report, allow_nan=False)) == report


@pytest.mark.parametrize("name", ["deq4ip", "mol-lr", "luser-dw"])
def test_a_shortened_search_is_long_enough_to_hold_all_that_it_holds(name, tmp_path):
    memory = importlib.import_module("memory")
    scan = memory.SAMPLES["cone-beam"](memory.WARM_SIZE)
    plan = memory.plan_for(name, scan, tmp_path)
    config = find(plan.params.weights).config
    search = config.equilibrium or config.prior.equilibrium
    assert search.max_evaluations > search.memory + 1
    if config.equilibrium is not None:
        assert plan.params.n_iterations > search.memory + 1
