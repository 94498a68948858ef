import numpy as np
import pytest

from napari_unroll.errors import ParameterError
from napari_unroll.events import Finished, Outcome, Progress, Stop, Warned
from napari_unroll.io.scan_file import write_scan
from napari_unroll.physics.build import build_physics
from napari_unroll.pipeline.evaluate import EvaluationPlan, cases, evaluate, out_of_distribution, residual
from napari_unroll.pipeline.held_out import Case
from tests.methods.tiny import cone, multicoil, weights

SMALL = {"task": "cone-beam", "views": (6,), "n": 1, "size": 16, "device": "cpu"}


def test_every_method_gives_a_row_of_numbers(tmp_path):
    plan = EvaluationPlan(**SMALL, methods=("fdk", "cgls", "unrolled-pgd"), weights=weights(tmp_path, cone()))
    *events, last = evaluate(plan)
    assert isinstance(last, Finished)
    assert last.outcome is Outcome.COMPLETED
    assert [r["method"] for r in last.result] == ["fdk", "cgls", "unrolled-pgd"]
    fdk, cgls, network = last.result
    assert fdk["views"] == 6
    assert cgls["residual"] < fdk["residual"]
    assert cgls["nrmse"] < fdk["nrmse"]
    assert (network["weights"], network["ood"], fdk["ood"]) == ("tiny-unrolled-pgd", True, False)
    assert any(isinstance(e, Progress) and "cgls" in e.text for e in events)


def test_a_stop_keeps_the_rows_so_far():
    stop = Stop()
    work = evaluate(EvaluationPlan(**(SMALL | {"n": 2}), methods=("fdk", "cgls")), stop)
    for event in work:
        if isinstance(event, Progress) and event.text.endswith("cgls"):
            stop.finish()
    assert event.outcome is Outcome.FINISHED_EARLY
    assert [r["method"] for r in event.result] == ["fdk"]


def test_a_method_that_fails_is_told_of_and_left_out(tmp_path, monkeypatch):
    bad = Finished(Outcome.FAILED, advice="It diverged.")
    monkeypatch.setattr("napari_unroll.pipeline.evaluate.run", lambda *_: iter([bad]))
    *events, last = evaluate(EvaluationPlan(**SMALL, methods=("fdk",)))
    assert any(isinstance(e, Warned) and "It diverged." in e.text for e in events)
    assert last.result is None
    assert last.outcome is Outcome.FAILED


@pytest.mark.parametrize(("asked", "told"), [({"methods": ("fkd",)}, "fkd"), ({"n": 0}, "nothing to evaluate")])
def test_a_plan_that_cannot_work_is_refused(asked, told):
    with pytest.raises(ParameterError, match=told):
        list(evaluate(EvaluationPlan(**(SMALL | asked))))


def test_files_replace_generated_scans(tmp_path):
    path = write_scan(tmp_path / "foot.h5", cone())
    assert [c.data for c in cases(EvaluationPlan(**SMALL, files=(str(path),)))] == ["foot"]


def test_residual_is_small_at_the_truth_only():
    for scan in (cone(), multicoil()):
        physics = build_physics(scan, "cpu")
        assert residual(physics, scan, scan.truth) < 0.1
        assert residual(physics, scan, np.zeros_like(scan.truth)) == pytest.approx(1)


def test_cards_say_what_is_out_of_distribution():
    generated = Case("cone-beam", 30, "generated", "walnut", cone)
    foot = Case("cone-beam", 30, "foot", "foot", cone, folder="/data/Feet")
    of_generated = {"trained_on": "107 generated cone-beam scans"}
    of_feet = {"trained_on": {"scans": 10, "objects": "volumes in /data/Feet"}}
    asked = [(card, case) for card in (of_generated, of_feet, {}) for case in (generated, foot)]
    assert [out_of_distribution(*pair) for pair in asked] == [False, True, True, False, True, True]
    assert out_of_distribution(of_generated, Case("parallel-beam", 30, "generated", "walnut", cone))
