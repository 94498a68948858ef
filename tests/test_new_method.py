"""A learned method that was added by its row alone is everywhere: trained, run, evaluated, in the docks, in the tables."""

from __future__ import annotations

import json
import os

import pytest
from typer.testing import CliRunner

from napari_unroll.cli.app import app
from napari_unroll.events import Finished
from napari_unroll.io.scan_file import write_scan
from napari_unroll.methods.algorithms.network import NetworkConfig
from napari_unroll.methods.algorithms.reconstruct import UnrolledParams, learned
from napari_unroll.methods.networks.unet import UNetConfig
from napari_unroll.methods.registry import METHODS
from napari_unroll.methods.table import methods_table
from napari_unroll.physics.samples import sample_cone_beam
from napari_unroll.pipeline.evaluate import EvaluationPlan, evaluate

TOY = learned(
    name="toy-unrolled-unet",
    title="Toy: unrolled U-Net",
    summary="A U-Net between two gradient steps.",
    source="this test",
    params=UnrolledParams,
    network=lambda modality: NetworkConfig(
        prior=UNetConfig(channels=(4, 4), complex_valued=modality == "mri"), n_iterations=2
    ),
)


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setitem(METHODS, TOY.name, TOY)


def command(*words):
    result = CliRunner().invoke(app, list(map(str, words)))
    assert result.exit_code == 0, result.output
    return result.output


def test_a_new_row_is_trained_run_and_evaluated(registered, tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_UNROLL_CACHE", str(tmp_path / "cache"))
    quick = ["-s", "options.n_steps=2", "-s", "options.patch_size=[8, 8, 8]", "-s", "n_objects=2", "-s", "n_held_out=1"]
    command("train", "-m", TOY.name, "--views", "6", "--size", 12, "--out", tmp_path / "training", *quick)
    weights = tmp_path / "training" / "trained.safetensors"
    assert json.loads(weights.with_suffix(".json").read_text())["method"] == TOY.name
    scan = write_scan(tmp_path / "scan.h5", sample_cone_beam(12, 6, oversample=1))
    command("reconstruct", scan, "-m", TOY.name, "--weights", weights, "--out", tmp_path / "volume.npy")
    *_, last = evaluate(EvaluationPlan(files=(str(scan),), weights=str(weights), methods=(TOY.name,)))
    assert isinstance(last, Finished)
    assert [row["method"] for row in last.result] == [TOY.name]


def test_a_new_row_is_in_the_lists(registered):
    assert TOY.name in command("methods")
    assert f"`{TOY.name}`" in methods_table()


@pytest.mark.skipif(not os.environ.get("DISPLAY") and os.environ.get("QT_QPA_PLATFORM") is None, reason="needs Qt")
def test_a_new_row_is_in_the_docks(registered, qapp):
    from napari.components import ViewerModel

    from napari_unroll.gui.reconstruct_dock import ReconstructDock
    from napari_unroll.gui.train_dock import TrainDock

    viewer = ViewerModel()
    reconstruct, train = ReconstructDock(viewer), TrainDock(viewer)
    reconstruct.choose(TOY.name)
    assert reconstruct.method.params.fields["weights"].value == "auto"
    train.form.plan.fields["method"].value = TOY.name
    assert train.form.order().plan.network.prior.kind == "unet"
    for dock in (reconstruct, train):
        dock.close()
        dock.deleteLater()
