"""``napari-unroll train``: one command from choices to weights."""

import json

import pytest
from typer.testing import CliRunner

from napari_unroll.cli.app import app
from napari_unroll.cli.train import make_plan
from napari_unroll.errors import ParameterError

TINY = ["--size", "12", "--views", "6", "-s", "n_objects=2", "-s", "n_held_out=1", "-s", "options.n_steps=3",
        "-s", "options.patch_size=[8,8,8]", "-s", "network.prior.channels=[4,4,4,4]",
        "-s", "network.start_iterations=2"]  # fmt: skip


def invoke(*words):
    return CliRunner().invoke(app, [str(w) for w in words])


def test_train_writes_weights_that_reconstruct(tmp_path):
    done = invoke("train", *TINY, "--out", tmp_path / "t", "--name", "mine", "--minutes", 5)
    assert done.exit_code == 0, done.stderr
    assert "cone beam, 6 views" in done.stdout
    assert "dB" in done.stderr
    assert json.loads((tmp_path / "t" / "mine.json").read_text())["plan"]["options"]["max_seconds"] == 300
    sample = ["sample:cone-beam", "-o", "n=12", "-o", "n_views=6", "-m", "unrolled-pgd"]
    used = invoke("reconstruct", *sample, "--weights", tmp_path / "t" / "mine.safetensors", "--out", tmp_path / "r.npy")
    assert used.exit_code == 0, used.stderr


def test_options_win_over_sets_and_sets_over_the_file(tmp_path):
    (tmp_path / "p.yaml").write_text("size: 16\nn_objects: 5\noptions:\n  batch_size: 3\n  ema: 0.5\n")
    plan = make_plan({"size": 20, "levels": None}, ["n_objects=7", "size=18", "options.ema=0.6"], tmp_path / "p.yaml")
    assert (plan.size, plan.n_objects, plan.options.batch_size, plan.options.ema) == (20, 7, 3, 0.6)
    with pytest.raises(ParameterError, match="cannot be set in it"):
        make_plan({}, ["size.big=1"], tmp_path / "p.yaml")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--volumes", "nowhere"], "no folder"),
        (["--views", "many"], "30,50,100"),
        (["--scanner", "nowhere.h5"], "nowhere.h5"),
        (["--initial", "nothing"], "nothing"),
        (["--initial", "cone-beam", "--modality", "mri"], "modality"),
        (["--set", "options.batch_size=0"], "batch_size"),
        (["--set", "optoins.batch_size=1"], "optoins"),
    ],
    ids=lambda v: v if isinstance(v, str) else v[-1],
)
def test_what_is_wrong_is_one_sentence_and_code_2(words, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = invoke("train", *words)
    assert done.exit_code == 2
    assert told in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
