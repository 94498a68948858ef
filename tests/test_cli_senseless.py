"""Senseless files, options and parameters on the command line: exit code 2 and one sentence of 300 characters."""

import numpy as np
import pytest
from typer.testing import CliRunner

from napari_unroll.cli.app import app
from napari_unroll.io.scan_file import write_scan
from napari_unroll.scan.geometry import VolumeGrid
from tests.io import samples, senseless

SAMPLE = ["sample:cone-beam", "-o", "n=16", "-o", "n_views=6"]
FILES = (
    "scan centre inf.h5", "scan centre 1e+20.h5", "scan voxel 1e-18.h5", "scan voxel 1e+300.h5", "scan shape nan.h5",
    "scan source inside.h5", "scan mask of zeros.h5", "scan k 1e+300.h5", "axis 1e+19.npz", "pixel inf.npz",
    "source 0.0.npz", "detector nan.npz", "pixel 1e-18.nxs", "angle nan.nxs", "num_angles 400000000.0.h5",
    "fei pixel inf.mrc", "walnut 1e+19", "mask of zeros.npz", "k nan.npz",
)  # fmt: skip


def refused(*words):
    done = CliRunner().invoke(app, [str(w) for w in words])
    assert done.exit_code == 2, (done.exit_code, done.output, done.exception)
    assert done.stderr.startswith("napari-unroll: ")
    assert done.stderr.count("\n") == 1
    assert len(done.stderr) <= 300, done.stderr
    return done.stderr


@pytest.fixture(autouse=True)
def _here(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NAPARI_UNROLL_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("name", FILES)
def test_a_file_with_a_senseless_number(name, tmp_path):
    path, options = senseless.write(name, tmp_path)
    words = [w for k, v in options.items() for w in ("-o", f"{k}={v}")]
    refused("reconstruct", path, *words, "--dry-run")
    assert not list(tmp_path.glob("result*"))


@pytest.mark.parametrize(
    "option",
    ["axis_px=1e19", "axis_px=nan", "pixel_mm=1e-18", "pixel_mm=.inf", "pixel_mm=-1", "pixel_mm=1e999",
     "view_step=1e30", "max_size=0", "angles=0:1e300", "angles=1e999:3", "flats=inf", "air=nan", "hot_pixels=inf"],
)  # fmt: skip
def test_a_senseless_option_of_a_reader(option, tmp_path):
    np.save(tmp_path / "views.npy", samples.line_integrals())
    words = (
        ["views.npy", "-o", option]
        if option.startswith("angles")
        else ["views.npy", "-o", "angles=0:180", "-o", option]
    )
    refused("info", *words)


@pytest.mark.parametrize(
    "option",
    ["n=0", "n=-5", "n=1e30", "n=nan", "n=3.5", "n=many", "n=[1,2]", "n_views=0", "n_views=1e12", "photons=inf",
     "photons=nan", "photons=-1", "oversample=0", "oversample=99999", "seed=-1", "seed=1e40", "family=potato"],
)  # fmt: skip
def test_a_senseless_option_of_the_cone_beam_sample(option):
    assert option.split("=")[0] in refused("info", "sample:cone-beam", "-o", option) or option == "family=potato"


@pytest.mark.parametrize(
    "option",
    ["shape=[0,16,16]", "shape=[4,16]", "shape=5", "shape=[4,1e9,16]", "n_coils=0", "n_coils=1e9", "acceleration=nan",
     "acceleration=0", "acceleration=inf", "noise=-1", "noise=inf", "seed=nan"],
)  # fmt: skip
def test_a_senseless_option_of_the_multi_coil_sample(option):
    assert option.split("=")[0] in refused("info", "sample:multi-coil", "-o", option)


@pytest.mark.parametrize("size", ["n=4096", "n=4096 oversample=8", "n=64 n_views=100000"])
def test_a_sample_that_does_not_fit_is_not_begun(size, monkeypatch):
    monkeypatch.setattr("napari_unroll.physics.memory.free_bytes", lambda device="cpu": 2**30)
    words = [w for option in size.split() for w in ("-o", option)]
    assert "GiB" in refused("info", "sample:cone-beam", *words, "-o", "family=ellipsoids")


@pytest.mark.parametrize(
    "words",
    [
        ["reconstruct", *SAMPLE, "-m", "tv-fista", "-s", "strength=nan"],
        ["reconstruct", *SAMPLE, "-m", "tv-fista", "-s", "strength=1e999"],
        ["reconstruct", *SAMPLE, "-m", "tv-fista", "-s", "tolerance=-inf"],
        ["reconstruct", *SAMPLE, "-m", "cgls", "-s", "n_iterations=1e30"],
        ["reconstruct", *SAMPLE, "-m", "cgls", "-s", "show_every=1e12"],
        ["reconstruct", *SAMPLE, "--patch-size", "²"],
        ["reconstruct", *SAMPLE, "--patch-size", "9" * 5000],
        ["reconstruct", *SAMPLE, "--overlap", "nan"],
        ["reconstruct", *SAMPLE, "--roi", "-1,3"],
        ["reconstruct", *SAMPLE, "--roi", f"0,{10**30}"],
        ["fit", *SAMPLE, "-s", "n_probes=1e30"],
        ["fit", *SAMPLE, "-s", "learning_rate=inf"],
        ["fit", *SAMPLE, "-s", "seed=-1"],
        ["train", "--minutes", "nan"],
        ["train", "--views", "1e12"],
        ["train", "--size", "1000000"],
        ["train", "-s", "options.learning_rate=nan"],
        ["train", "-s", "options.patch_size=[0,1,2]"],
        ["train", "-s", "noise.photons=[1,.inf]"],
        ["train", "-s", "network.prior.channels=[-1,0,2,4]"],
    ],
    ids=lambda w: " ".join(w[-2:])[:40],
)
def test_a_senseless_parameter(words):
    refused(*words)


def test_volumes_that_do_not_fit_the_memory_are_refused_before_they_are_allocated(tmp_path):
    senseless.grid(shape=(10**6, 10**6, 10**6), spacing_mm=(1e-6, 1e-6, 1e-6))(tmp_path / "huge.h5")
    for words in (["reconstruct", "-m", "fdk"], ["reconstruct", "-m", "cgls", "--dry-run"], ["fit"]):
        assert "free" in refused(words[0], "huge.h5", *words[1:])


def test_a_region_that_no_ray_meets_is_refused_by_the_plan(tmp_path):
    write_scan(tmp_path / "tall.h5", senseless.cone_scan().with_grid(VolumeGrid(shape=(300, 4, 5))))
    assert "No ray meets" in refused("reconstruct", "tall.h5", "-m", "fdk", "--roi", "280,300")
