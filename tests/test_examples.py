"""The plans in examples/ are plans that training takes."""

from pathlib import Path

import pytest

from napari_unroll.pipeline.params import from_yaml
from napari_unroll.training.plan import TrainingPlan

PLANS = sorted((Path(__file__).parents[1] / "examples").glob("*.yaml"))


@pytest.mark.parametrize("path", PLANS, ids=lambda p: p.stem)
def test_example_plans_are_valid(path: Path) -> None:
    plan = from_yaml(TrainingPlan, path.read_text())
    assert plan.network.prior.complex_valued == (plan.modality == "mri")
    assert plan.options.max_seconds


def test_there_are_examples() -> None:
    assert {p.stem for p in PLANS} >= {"cone-beam", "multi-coil"}
