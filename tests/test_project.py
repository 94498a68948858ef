"""The files around the code agree with it."""

import re
from pathlib import Path

import yaml

import napari_unroll

ROOT = Path(__file__).parents[1]
CHECKS = (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == napari_unroll.__version__


def test_the_package_says_that_it_is_typed() -> None:
    assert (Path(napari_unroll.__file__).parent / "py.typed").exists()


def test_the_hooks_are_checks_of_continuous_integration() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    commands = {hook["entry"].removeprefix(".venv/bin/").removesuffix(" --force-exclude") for hook in hooks}
    assert commands <= set(re.findall(r"^check ([\w -]+?)(?: --check)?(?: \.)?$", CHECKS, re.M))
    assert len(commands) == 4


def test_the_workflow_runs_the_checks_and_builds_the_documentation() -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))["jobs"]
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    assert commands == [".ci/run", "sh run.sh docs"]
