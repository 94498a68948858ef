import json
import shlex
import signal
import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from napari_unroll.cli.app import app
from napari_unroll.cli.progress import ProgressBar, handle_interrupts, run_with_progress
from napari_unroll.cli.team import joined
from napari_unroll.errors import ParameterError
from napari_unroll.events import Finished, IterationDone, Outcome, Progress, Started, Stop, Warned
from napari_unroll.io.scan_file import write_scan
from napari_unroll.io.writers import read_volume
from napari_unroll.methods.registry import METHODS
from napari_unroll.normal.report import NORMS
from napari_unroll.physics.samples import sample_cone_beam
from napari_unroll.pipeline import away
from napari_unroll.pipeline.edits import shifted
from tests.methods import tiny

SAMPLE = ["sample:cone-beam", "-o", "n=16", "-o", "n_views=6"]


@pytest.fixture(autouse=True)
def _cache(monkeypatch, tmp_path):
    monkeypatch.setenv("NAPARI_UNROLL_CACHE", str(tmp_path / "cache"))


def invoke(*words):
    return CliRunner().invoke(app, [str(w) for w in words])


def test_methods_lists_every_method_and_parameter():
    shown = invoke("methods").stdout
    for name, method in METHODS.items():
        assert f"{name}: {method.title}" in shown
        assert all(f"{field} = " in shown for field in method.params.model_fields)


def test_methods_are_told_to_programs():
    """Name, modalities and the schema of the parameters, from which a program can build a record of its own."""
    told = {m["name"]: m for m in json.loads(invoke("methods", "--json").stdout)}
    assert list(told) == list(METHODS)
    for name, method in METHODS.items():
        assert told[name]["title"] == method.title
        assert set(told[name]["modalities"]) == method.modalities
        assert list(told[name]["params"]["properties"]) == list(method.params.model_fields)
        assert told[name]["params"]["additionalProperties"] is False
    steps = told["cgls"]["params"]["properties"]["n_iterations"]
    assert (steps["type"], steps["minimum"], steps["default"]) == ("integer", 1, 12)
    assert told["fbp"]["modalities"] == ["ct"]
    assert told["unrolled-pgd"]["needs_weights"]


def test_info_tells_facts_as_text_and_json():
    assert "volume" in invoke("info", *SAMPLE).stdout
    facts = json.loads(invoke("info", *SAMPLE, "--json").stdout)
    assert facts["measurements"][0] == 6


def test_info_checks_the_geometry_where_asked(tmp_path):
    scan = sample_cone_beam(24, 24, oversample=1)
    right, off = tmp_path / "right.h5", tmp_path / "off.h5"
    write_scan(right, scan)
    write_scan(off, replace(scan, geometry=shifted(scan.geometry, 3.0)))
    said = invoke("info", right, "--check-geometry").stdout
    assert "axis is right" in said
    assert "cannot tell" in said
    assert "pixel size" in said
    found = json.loads(invoke("info", off, "--check-geometry", "--json").stdout)["geometry check"]
    assert "axis seems" in found["verdict"]
    mended = float(found["mended by"].removeprefix("reconstruct --edit axis_shift_px="))
    assert mended == pytest.approx(-3.0, abs=0.7)
    assert invoke("info", "sample:deblur", "--check-geometry").exit_code == 2


def test_fit_reports_its_error_and_saves(tmp_path):
    done = invoke("fit", *SAMPLE, "--set", "n_probes=4", "--out", tmp_path / "n.safetensors")
    assert done.exit_code == 0, done.stderr
    assert all(f"error {norm}" in done.stdout for norm in NORMS.values())
    assert (tmp_path / "n.safetensors").stat().st_size > 1000


@pytest.mark.parametrize("name", ["r.ome.zarr", "r.tif", "r.npy"])
def test_reconstruct_writes_the_volume_with_its_record(tmp_path, name):
    done = invoke("reconstruct", *SAMPLE, "--method", "cgls", "--set", "n_iterations=3", "--out", tmp_path / name)
    assert done.exit_code == 0, done.stderr
    assert "PSNR" in done.stdout
    volume = read_volume(tmp_path / name)
    assert volume.values.shape == (16, 16, 16)
    assert volume.record["method"]["params"]["n_iterations"] == 3
    assert volume.record["command"].startswith("napari-unroll reconstruct sample:cone-beam --method cgls")


def test_the_command_in_the_record_makes_the_same_volume(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = tmp_path / "first.npy"
    invoke("reconstruct", *SAMPLE, "-m", "tv-fista", "-s", "n_iterations=3", "--roi", "2,9", "--out", first)
    words = shlex.split(read_volume(first).record["command"])
    assert words[-2:] == ["--out", str(first)]
    again = invoke(*words[1:-1], tmp_path / "again.npy")
    assert again.exit_code == 0, again.stderr
    np.testing.assert_array_equal(read_volume(tmp_path / "again.npy").values, read_volume(first).values)


def test_a_fixed_point_that_was_not_found_is_said_and_recorded(tmp_path):
    out, weights = tmp_path / "x.npy", tiny.weights(tmp_path, tiny.cone(), "mol-sn")
    choices = ("--method", "mol-sn", "--weights", weights, "--set", "n_iterations=2", "--patch-size", "10")
    done = invoke("reconstruct", *SAMPLE, *choices, "--out", out)
    assert done.exit_code == 0, done.stderr
    assert "not converged" in done.stderr
    assert "2 evaluations, relative residual" in done.stderr
    assert "The network saw each of 8 patches 2 times" in done.stderr
    told = read_volume(out).record["fixed_point"]
    assert told["converged"] is False
    assert told["residual"] > told["tolerance"]


def test_an_mri_sample_gives_a_complex_volume(tmp_path):
    words = ["sample:multi-coil", "-o", "shape=[4,16,16]", "-o", "n_coils=2", "-m", "zero-filled"]
    done = invoke("reconstruct", *words, "--out", tmp_path / "m.npy")
    assert done.exit_code == 0, done.stderr
    assert read_volume(tmp_path / "m.npy").values.dtype == np.complex64


def test_yaml_holds_choices_and_options_win(tmp_path):
    (tmp_path / "run.yaml").write_text("method: cgls\nparams:\n  n_iterations: 4\n  tolerance: 0\ndevice: cpu\n")
    done = invoke("reconstruct", *SAMPLE, "--config", tmp_path / "run.yaml", "-s", "n_iterations=2", "--dry-run",
                  "--out", tmp_path / "x.npy")  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert "n_iterations=2, " in done.stdout
    assert "tolerance=0.0, " in done.stdout
    assert not (tmp_path / "x.npy").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["info", "nowhere.h5"], "no file"),
        (["info", "sample:fan"], "sample:cone-beam"),
        (["reconstruct", *SAMPLE, "--method", "fkd"], "got 'fkd'"),
        (["reconstruct", *SAMPLE, "--method", "cgls", "--set", "n_iterations=0"], "n_iterations"),
        (["reconstruct", *SAMPLE, "--method", "cgls", "--set", "steps"], "name=value"),
        (["reconstruct", *SAMPLE, "--patch-size", "big"], "patch_size"),
        (["reconstruct", *SAMPLE, "--roi", "1,99"], "inside the volume"),
        (["reconstruct", *SAMPLE, "--device", "cuda:77"], "cuda:77"),
        (["reconstruct", *SAMPLE, "--out", "result.doc"], "result.doc"),
        (["reconstruct", *SAMPLE, "--config", "none.yaml"], "none.yaml"),
        (["reconstruct", *SAMPLE, "--on", "moon"], "got 'moon'"),
        (["reconstruct", *SAMPLE, "--queue", "gpus=1"], "--on slurm"),
        (["reconstruct", *SAMPLE, "--on", "process", "--out", "result.tif"], "not result.tif"),
        (["reconstruct", *SAMPLE, "--on", "slurm", "--queue", "gpus=-1"], "gpus"),
        (["fit", *SAMPLE, "--set", "form=nice"], "form"),
    ],
    ids=lambda v: v if isinstance(v, str) else v[-1],
)
def test_what_is_wrong_is_one_sentence_and_code_2(words, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = invoke(*words)
    assert done.exit_code == 2
    assert told in done.stderr
    assert done.stderr.startswith("napari-unroll: ")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.glob("result*"))


def test_an_existing_result_is_kept_unless_told(tmp_path):
    (tmp_path / "r.npy").write_bytes(b"precious")
    words = ["reconstruct", *SAMPLE, "-m", "fdk", "--out", tmp_path / "r.npy"]
    done = invoke(*words)
    assert done.exit_code == 2
    assert (tmp_path / "r.npy").read_bytes() == b"precious"
    assert invoke(*words, "--overwrite").exit_code == 0
    (tmp_path / "r.npy").unlink()
    done = invoke(*words)  # the record beside it is there: told before the work, not after it
    assert done.exit_code == 2
    assert "r.json exists already" in done.output


def test_processes_that_share_work_do_so_on_cpus_only(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ParameterError, match="choose --device cpu"), joined("cuda:0"):
        pytest.fail("nothing is shared")


def test_a_run_is_sent_elsewhere_with_the_words_that_were_given(tmp_path, monkeypatch):
    sent, store = [], tmp_path / "r.ome.zarr"

    def start(words, store, queue):
        sent.append((words, queue))
        return away.Away(tmp_path, away.Note(store=str(store), where="process", host="", started="", pid=7))

    monkeypatch.setattr(away, "start", start)
    done = invoke("reconstruct", *SAMPLE, "-m", "fdk", "--on", "process", "--out", store)
    assert done.exit_code == 0, done.stderr
    assert "Started process 7" in done.stdout
    given = [word.replace("-o", "--option") for word in SAMPLE[1:]]
    assert sent.pop() == (["reconstruct", SAMPLE[0], "--method", "fdk", *given, "--out", str(store)], None)
    invoke("reconstruct", "--resume", store, "--on", "slurm", "--queue", "gpus=2")
    assert sent.pop() == (["reconstruct", "--resume", str(store)], away.Queue(gpus=2))


def test_the_installed_command_in_a_process_of_its_own(tmp_path):
    command = [sys.executable, "-m", "napari_unroll.cli", "reconstruct", *SAMPLE, "-m", "fdk", "--out", "r.npy"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert read_volume(tmp_path / "r.npy").values.shape == (16, 16, 16)
    wrong = subprocess.run([*command[:4], "nowhere"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert "Traceback" not in wrong.stderr


def test_a_failed_run_has_code_1_and_a_cancelled_one_130(capsys):
    import typer

    for outcome, code in ((Outcome.FAILED, 1), (Outcome.CANCELLED, 130)):
        with pytest.raises(typer.Exit) as leave:
            run_with_progress(lambda stop, outcome=outcome: iter([Finished(outcome, advice="So it is.")]), "work")
        assert leave.value.exit_code == code
        assert "napari-unroll: So it is." in capsys.readouterr().err


def test_the_bar_follows_the_stages(capsys):
    with ProgressBar("work") as bar:
        for event in (Started("work"), Progress(1, 2, "first"), Progress(2, 2, "first"), Warned("Careful.")):
            bar.update(event)
        bar.update(IterationDone(1, 5, residual=0.25))
        bar.update(IterationDone(2, 5))
        assert (bar._bar.n, bar._bar.total) == (2, 2)
        bar.update(Progress(0, 5, "second"))
        bar.update(IterationDone(2, 5))
        assert (bar._bar.n, bar._bar.total) == (2, 5)
    assert "warning: Careful." in capsys.readouterr().err


def test_the_first_interrupt_finishes_and_the_second_cancels(capsys):
    stop, usual = Stop(), signal.getsignal(signal.SIGINT)
    with handle_interrupts(stop):
        signal.raise_signal(signal.SIGINT)
        assert (stop.finish_now, stop.cancelled) == (True, False)
        signal.raise_signal(signal.SIGINT)
        assert stop.cancelled
        assert signal.getsignal(signal.SIGINT) is usual
    assert signal.getsignal(signal.SIGINT) is usual
    assert "press Ctrl-C again" in capsys.readouterr().err


def test_other_threads_take_no_signals():
    seen = []

    def work():
        with handle_interrupts(Stop()):
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]


def test_the_demo_without_a_window_writes_volume_and_numbers(tmp_path):
    done = invoke("demo", "--headless", "--no-window", "--size", 16, "--views", 8, "--out", tmp_path / "demo")
    assert done.exit_code == 0, done.stderr
    table = json.loads((tmp_path / "demo" / "metrics.json").read_text())
    names = [row["method"] for row in table["results"]]
    assert names[:2] == ["fdk", "tv-fista"]
    assert all({"method", "psnr", "ssim", "seconds"} == set(row) for row in table["results"])
    assert read_volume(tmp_path / "demo" / "result.ome.zarr").record["method"]["name"] == names[-1]


def test_info_needs_no_numerics(tmp_path):
    path = tmp_path / "scan.h5"
    write_scan(path, sample_cone_beam(8, 4))
    words = "import sys; from napari_unroll.cli.app import app; app(['info', sys.argv[1]], standalone_mode=False); "
    done = subprocess.run(
        [sys.executable, "-c", words + "print({'torch', 'deepinv'} & set(sys.modules))", str(path)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip().endswith("set()")
