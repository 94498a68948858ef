import json
import shlex

from napari_unroll.events import Outcome
from napari_unroll.pipeline.plan import Choices, resolve
from napari_unroll.pipeline.provenance import record
from napari_unroll.pipeline.run import run
from napari_unroll.pipeline.sources import open_scan


def test_the_record_tells_everything_and_is_json():
    scan = open_scan("sample:cone-beam", {"n": 16, "n_views": 6})
    plan = resolve(Choices(method="cgls", params={"n_iterations": 2}, device="cpu"), scan)
    *_, finished = run(plan, scan)
    told = json.loads(json.dumps(record(plan, scan, finished)))
    assert told["method"]["name"] == "cgls"
    assert told["method"]["params"]["n_iterations"] == 2
    assert told["scan"]["source"] == "sample:cone-beam"
    assert told["scan"]["seed"] == scan.provenance.seed
    assert told["outcome"] == str(Outcome.COMPLETED)
    assert len(told["residuals"]) == 2
    assert {"napari-unroll", "torch", "deepinv", "python"} <= set(told["software"])
    words = shlex.split(told["command"])
    assert words[:3] == ["napari-unroll", "reconstruct", "sample:cone-beam"]
    assert "n=16" in words


def test_missing_weights_are_no_obstacle_to_a_record():
    scan = open_scan("sample:cone-beam", {"n": 16, "n_views": 6})
    plan = resolve(Choices(method="unrolled-pgd", params={"weights": "nowhere.safetensors"}, device="cpu"), scan)
    *_, finished = run(plan, scan)
    assert finished.outcome is Outcome.FAILED
    assert "nowhere" in finished.advice
    assert record(plan, scan, finished)["weights"] is None
