"""What repeats a run: the command, the script, and the record of a stored result; random wishes give equal values."""

import shlex
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from napari_unroll.cli.app import app
from napari_unroll.errors import ParameterError, ScanError
from napari_unroll.io.scan_file import read_scan, write_scan
from napari_unroll.io.volume import plain_record
from napari_unroll.io.writers import is_result, read_volume, write
from napari_unroll.pipeline.edits import Edits, edited, edits_of
from napari_unroll.pipeline.plan import Choices, resolve
from napari_unroll.pipeline.provenance import description, record
from napari_unroll.pipeline.repeat import open_result, plan_of, run_of
from napari_unroll.pipeline.run import run
from napari_unroll.pipeline.sources import open_scan
from tests.methods import tiny

SAMPLE = ("sample:cone-beam", {"n": 16, "n_views": 8, "oversample": 1})


def random_wishes(seed):
    """A scan with changes, and choices, drawn at random."""
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(10, 18, 3))
    spacing = tuple(float(s) for s in rng.uniform(2, 4, 3))
    scan = edited(open_scan(*SAMPLE), Edits(shape=shape, spacing_mm=spacing))
    scan = edited(scan, Edits(axis_shift_px=float(rng.normal())))
    scan = edited(scan, Edits(axis_shift_px=0.25, center_mm=(1.0, 0.1, -1 / 3)))
    methods = {
        "fdk": {"window": "hann"}, "cgls": {"n_iterations": 2}, "tv-fista": {"n_iterations": 2, "strength": 1e-5},
    }  # fmt: skip
    name = list(methods)[seed % 3]
    start = int(rng.integers(0, 4))
    roi = (start, start + 5, 0, shape[1], 0, shape[2]) if seed == 1 else None
    return scan, Choices(method=name, params=methods[name], roi=roi, device="cpu")


def result(scan, plan):
    *_, finished = run(plan, scan)
    assert finished.result is not None, finished.advice
    return finished


@pytest.mark.parametrize("seed", range(3))
def test_command_script_and_stored_result_give_equal_values(tmp_path, monkeypatch, seed):
    monkeypatch.chdir(tmp_path)
    scan, choices = random_wishes(seed)
    plan = resolve(choices, scan)
    finished = result(scan, plan)
    write(tmp_path / "first.ome.zarr", finished.result, plan.grid, record(plan, scan, finished))

    words = shlex.split(plan.command)[1:]
    from_file = ["reconstruct", "--from", "first.ome.zarr", "--out", "again.ome.zarr"]
    for arguments, name in ((words, "result.ome.zarr"), (from_file, "again.ome.zarr")):
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, done.output
        again = read_volume(name)
        np.testing.assert_allclose(again.values, finished.result, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(again.grid.origin_mm, plan.grid.origin_mm)
    exec(compile(plan.script.replace("result.ome.zarr", "script.npy"), "script", "exec"), {})
    np.testing.assert_allclose(np.load("script.npy"), finished.result, rtol=1e-4, atol=1e-6)
    assert len(plan.script.splitlines()) == 10


def test_patches_are_those_of_the_stored_result(tmp_path):
    scan, choices = random_wishes(0)
    plan = replace(resolve(choices, scan), patch_size=(8, 10, 9), overlap=3)
    finished = result(scan, plan)
    path = write(tmp_path / "r.tif", finished.result, plan.grid, record(plan, scan, finished))
    assert is_result(path)
    again = plan_of(open_result(path))
    assert (again.patch_size, again.overlap, again.method) == ((8, 10, 9), 3, "fdk")


def test_a_scan_in_no_file_cannot_be_repeated(tmp_path):
    scan = open_scan(*SAMPLE)
    scan = replace(scan, provenance=replace(scan.provenance, source=""))
    plan = resolve(Choices(method="fdk"), scan)
    finished = result(scan, plan)
    path = write(tmp_path / "r.npy", finished.result, plan.grid, record(plan, scan, finished))
    assert is_result(path)
    with pytest.raises(ParameterError, match="in no file"):
        open_result(path)


def test_a_scan_that_changed_cannot_be_repeated(tmp_path):
    scan = open_scan(*SAMPLE)
    scan = replace(scan, provenance=replace(scan.provenance, source=""))
    file = write_scan(tmp_path / "scan.h5", scan)
    opened = open_scan(str(file))
    plan = resolve(Choices(method="fdk"), opened)
    finished = result(opened, plan)
    path = write(tmp_path / "r.npy", finished.result, plan.grid, record(plan, opened, finished))
    assert plan_of(open_result(path)).method == "fdk"
    write_scan(file, replace(scan, measurements=2 * scan.measurements), overwrite=True)
    with pytest.raises(ParameterError, match="changed"):
        open_result(path)


def test_a_saved_sample_is_its_own_source(tmp_path):
    """Also with changes, which are in the file, and are not made twice."""
    file = write_scan(tmp_path / "scan.h5", edited(open_scan(*SAMPLE), Edits(shape=(10, 12, 14), axis_shift_px=0.5)))
    scan = open_scan(str(file))
    assert (scan.provenance.source, edits_of(scan)) == (str(file), Edits())
    assert "sample:cone-beam" in scan.notes[-1]
    scan = edited(scan, Edits(axis_shift_px=0.25))
    plan = resolve(Choices(method="fdk", device="cpu"), scan)
    finished = result(scan, plan)
    stored = write(tmp_path / "r.npy", finished.result, plan.grid, record(plan, scan, finished))
    again = open_result(stored)
    np.testing.assert_array_equal(result(again.scan, plan_of(again)).result, finished.result)


@pytest.mark.parametrize("limit", ["auto", 0.5])
def test_what_a_run_may_take_is_part_of_its_record(tmp_path, limit):
    scan = open_scan(*SAMPLE)
    plan = resolve(Choices(method="fdk", max_memory_gb=limit), scan)
    finished = result(scan, plan)
    again = plan_of(open_result(write(tmp_path / "r.npy", finished.result, plan.grid, record(plan, scan, finished))))
    assert again.max_memory_gb == limit


def test_a_volume_of_another_program_tells_nothing(tmp_path):
    scan = open_scan(*SAMPLE)
    with pytest.raises(ParameterError, match="no record"):
        open_result(write(tmp_path / "r.npy", scan.truth, scan.grid))


def test_from_takes_no_other_choices(tmp_path):
    done = CliRunner().invoke(
        app, ["reconstruct", "--from", "r.npy", "--method", "fdk", "--out", str(tmp_path / "o.npy")]
    )
    assert done.exit_code == 2
    assert "leave out method" in done.output


def test_edits_add_up_and_survive_a_file(tmp_path):
    scan = edited(edited(open_scan(*SAMPLE), Edits(axis_shift_px=1.5)), Edits(axis_shift_px=-0.5, shape=(8, 8, 8)))
    assert edits_of(scan) == Edits(axis_shift_px=1.0, shape=(8, 8, 8))
    assert edits_of(read_scan(write_scan(tmp_path / "s.h5", scan))) == edits_of(scan)
    assert scan.truth is None


def test_only_x_ray_scans_have_an_axis():
    scan = open_scan("sample:multi-coil", {"shape": (4, 8, 8), "n_coils": 2, "acceleration": 3})
    with pytest.raises(ScanError, match="X-ray"):
        edited(scan, Edits(axis_shift_px=1.0))


@pytest.mark.parametrize(
    ("wishes", "words"),
    [
        ({}, ""),
        ({"patch_size": 8, "overlap": 2}, "--patch-size 8 --overlap 2"),
        ({"patch_size": 12}, "--patch-size 12 --overlap 6"),
        ({"patch_size": 64}, ""),
    ],
)
def test_the_plan_of_a_record_asks_for_its_patches(tmp_path, wishes, words):
    """In its command too; but not where they are those of "auto"."""
    scan = open_scan(*SAMPLE)
    params = {"weights": tiny.weights(tmp_path, scan, "drunet")}
    plan = resolve(Choices(method="drunet", params=params, device="cpu", **wishes), scan)
    again, _ = run_of(plain_record(description(plan, scan)), "r")
    assert (again.patch_size, again.overlap, again.memory_bytes) == (plan.patch_size, plan.overlap, plan.memory_bytes)
    assert words in again.command
    assert ("--patch-size" in again.command) is bool(words)
    halved = replace(plan, patch_size=(8, 12, 16), overlap=3)
    again, _ = run_of(plain_record(description(halved, scan)), "r")
    assert (again.patch_size, again.overlap) == ((8, 12, 16), 3)
