"""Methods are compared on measurements that none of them saw; the verdict is remembered for the scan."""

import json
from dataclasses import replace

import numpy as np
import pytest

from napari_unroll.events import Finished, Measured, Outcome, Progress, Stop, Warned
from napari_unroll.methods.registry import get
from napari_unroll.pipeline.choose import ChoosePlan, choose, quick_params
from napari_unroll.pipeline.verdicts import automatic, best_known, remember, verdict_path
from napari_unroll.scan.scan import Provenance
from tests.methods import tiny

TWO = ChoosePlan(methods=("zero-filled", "cg-sense"), device="cpu", fraction=0.2)


@pytest.fixture(autouse=True)
def _isolated(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_UNROLL_CACHE", str(tmp_path))


def known(scan=None):
    return replace(scan or tiny.slice_mri(), provenance=Provenance(source="here", sha256="abc"))


def test_the_method_that_fits_better_wins_and_is_taken_by_auto():
    scan = known()
    events = list(choose(scan, TWO))
    finished = events[-1]
    assert finished.outcome is Outcome.COMPLETED
    verdict = finished.result
    assert verdict.method == "cg-sense"
    assert [r.method for r in verdict.rows] == ["cg-sense", "zero-filled"]
    assert verdict.rows[0].error < verdict.rows[1].error
    assert all(np.isfinite([r.error, r.spread, r.seconds, r.memory_mib]).all() for r in verdict.rows)
    assert "cg-sense foretells" in verdict.text
    assert len([e for e in events if isinstance(e, Measured)]) == 2
    method, why = automatic(scan)
    assert method is get("cg-sense")
    assert "left-out" in why[0]
    assert json.loads(verdict_path(scan).read_text())["method"] == "cg-sense"


def test_a_network_runs_quickly_first_and_then_with_its_defaults():
    assert quick_params(get("unrolled-pgd")) == {
        "self_ensemble": False, "final_data_step": "none", "adaptation_steps": 0
    }  # fmt: skip
    assert quick_params(get("zero-filled")) == {}
    assert quick_params(get("tv-fista"))["n_iterations"] == 50
    plan = ChoosePlan(methods=("zero-filled", "tv-fista"), device="cpu")
    *_, finished = choose(known(), plan)
    assert {(r.method, r.settings) for r in finished.result.rows} == {
        ("zero-filled", "full"), ("tv-fista", "quick"), ("tv-fista", "full")
    }  # fmt: skip


def test_cancel_keeps_nothing_and_finish_now_what_was_tried():
    for ask, outcome in (("cancel", Outcome.CANCELLED), ("finish", Outcome.FINISHED_EARLY)):
        stop, events = Stop(), []
        for event in choose(known(), TWO, stop):
            events.append(event)
            if isinstance(event, Measured):
                getattr(stop, ask)()
        assert events[-1].outcome is outcome
        assert (events[-1].result is None) == (ask == "cancel")
    assert best_known(known()) is None


def test_a_scan_that_can_spare_nothing_says_so():
    *_, finished = choose(tiny.blurred())
    assert finished.outcome is Outcome.FAILED
    assert "left out" in finished.advice


def test_what_is_not_known_by_its_origin_is_not_remembered(tmp_path):
    scan = replace(tiny.slice_mri(), provenance=Provenance())
    assert verdict_path(scan) is None
    assert best_known(scan) is None
    path = verdict_path(known())
    path.parent.mkdir(parents=True)
    for text in ("{", "[]", '{"method": "gone"}', '{"method": "fdk"}'):
        path.write_text(text)
        assert best_known(known()) is None


def test_it_tells_how_far_it_is():
    events = list(choose(known(tiny.cone(12, 20)), ChoosePlan(methods=("fdk", "cgls"), device="cpu")))
    assert isinstance(events[-1], Finished)
    assert events[-1].result.method == "cgls"
    assert "can prefer the worse volume" in events[-1].advice
    assert best_known(known(tiny.cone(12, 20))) is None
    assert any(isinstance(e, Progress) and e.text.startswith("cgls") for e in events)
    assert not [e for e in events if isinstance(e, Warned)]


def test_a_damaged_verdict_counts_as_none():
    scan = known(tiny.cone(12, 20))
    remember(scan, {"method": "cgls"})
    assert best_known(scan).name == "cgls"
    path = verdict_path(scan)
    path.write_text(path.read_text().replace("cgls", "sirt"))
    assert best_known(scan) is None
