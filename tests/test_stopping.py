"""A law over all long work: asked to stop, between its events or inside a step, it ends within the step.

Measured in looks and events, never in seconds: after the wish there are at most a few more of either.
"""

import warnings
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

from napari_unroll.errors import Cancelled
from napari_unroll.events import IterationDone, Outcome, PatchDone, Stop
from napari_unroll.gui import jobs, normal_jobs
from napari_unroll.interrupt import listening
from napari_unroll.io import registry as readers
from napari_unroll.io.scan_file import write_scan
from napari_unroll.methods import registry
from napari_unroll.normal.factors import NormalFactors
from napari_unroll.normal.fit import FitOptions, fit, fit_now
from napari_unroll.physics.build import build_physics
from napari_unroll.physics.samples import sample_cone_beam, sample_multicoil
from napari_unroll.pipeline import sources
from napari_unroll.pipeline.choose import ChoosePlan, choose
from napari_unroll.pipeline.evaluate import EvaluationPlan, evaluate
from napari_unroll.pipeline.geometry_check import check_geometry
from napari_unroll.pipeline.held_out import coils_of, cone_of
from napari_unroll.pipeline.metrics import ssim
from napari_unroll.pipeline.plan import Choices, resolve
from napari_unroll.pipeline.run import run
from napari_unroll.scan import phantoms
from napari_unroll.scan.scan import Scan
from napari_unroll.training.plan import TrainingPlan
from napari_unroll.training.session import train
from tests.io import mri_samples
from tests.io import samples as files
from tests.io.test_radial import write_pyqmri
from tests.methods import tiny
from tests.stops import Tripping, drive

MORE_LOOKS, MORE_EVENTS = 6, 4
"""What may come after the wish: the looks of those who clean up, and events that were due already."""
N_INSIDE = 2
"""Random looks that each work is stopped at."""
HOW = {"cancel": Outcome.CANCELLED, "finish": Outcome.FINISHED_EARLY}
CASES = {}
"""Name → function(folder) that gives make(stop)."""


@cache
def cone() -> Scan:
    return sample_cone_beam(12, 8, oversample=1)


@cache
def coils() -> Scan:
    return sample_multicoil((4, 16, 16), n_coils=3, acceleration=2)


def case(name):
    """Register a case."""

    def add(function):
        CASES[name] = function
        return function

    return add


def plain(name, work):
    """A case of one plain function, ``work(folder)``, run as the docks run it."""
    CASES[name] = lambda folder: jobs.single(name, partial(work, folder))


SCANS = {
    "cone": cone, "parallel": tiny.parallel, "multi-coil": coils, "one slice": tiny.slice_mri, "blurred": tiny.blurred,
    "super-resolution": tiny.downsampled,
}  # fmt: skip
LEARNED = ("cone", "multi-coil")
"""Scans of learned methods, which share one loop and take longest."""


def method_case(name, make, folder):
    scan, method = make(), registry.get(name)
    params = tiny.quick_params(method, scan, folder)
    plan = resolve(Choices(device="cpu", method=name, params=params, patch_size=12), scan)
    return lambda stop: run(plan, scan, stop)


for name, method in registry.METHODS.items():
    for title, make in SCANS.items():
        if method.obstacle(make()) or name == "dpir-ram":  # the loop of dpir, whose network takes minutes here
            continue
        if method.learning is None or title in LEARNED:
            CASES[f"{name}, {title}"] = partial(method_case, name, make)


@case("deq4ip without settled patches")
def _(folder):
    params = tiny.quick_params(registry.get("deq4ip"), cone(), folder) | {"skip_settled": True}
    plan = resolve(Choices(device="cpu", method="deq4ip", params=params, patch_size=8, overlap=2), cone())
    return lambda stop: run(plan, cone(), stop)


@case("volumes on disk")
def _(folder):
    plan = resolve(Choices(device="cpu", method="tv-fista", params={"n_iterations": 2}), cone())
    return lambda stop: run(replace(plan, volume_bytes=0, scratch=folder / "scratch"), cone(), stop)


@case("region of CT")
def _(folder):
    plan = resolve(Choices(device="cpu", method="cgls", params={"n_iterations": 2}, roi=(2, 6, 0, 12, 0, 12)), cone())
    return lambda stop: run(plan, cone(), stop)


def fit_case(options, make, folder):
    physics = build_physics(make(), "cpu")
    return lambda stop: fit(physics, FitOptions(n_test=1, **options), stop)


for form in ("dcd", "dc", "cd", "sum"):
    CASES[f"fit {form}"] = partial(fit_case, {"form": form, "n_probes": 3}, cone)
for form in ("coils", "virtual-coils", "single-coil"):
    CASES[f"fit {form}"] = partial(fit_case, {"form": form}, coils)
CASES["fit on larger voxels"] = partial(fit_case, {"form": "dcd", "n_probes": 3, "coarse": 2, "support": 6}, cone)
CASES["fit by Adam"] = partial(fit_case, {"recipe": "paper", "n_steps": 3}, cone)

for family in phantoms.FAMILIES:
    plain(f"object {family}", lambda folder, family=family: phantoms.FAMILIES[family]((12, 12, 12), 1))
plain("sample cone-beam", lambda folder: sources.sample("cone-beam", {"n": 12, "n_views": 8}))
plain("sample multi-coil", lambda folder: sources.sample("multi-coil", {"shape": (4, 16, 16), "acceleration": 3}))
plain("noise of pixels", lambda folder: sample_cone_beam(8, 20, photons=1e4, oversample=1))


@case("scan of a volume, X-rays")
def _(folder):
    np.save(folder / "v.npy", np.random.default_rng(0).random((9, 10, 11)))
    return jobs.single("scan of a volume", lambda: cone_of(folder / "v.npy", 8, 6))


@case("scan of a volume, coils")
def _(folder):
    np.save(folder / "v.npy", np.random.default_rng(0).random((16, 16, 16)))
    return jobs.single("scan of a volume", lambda: coils_of(folder / "v.npy", 16, 2))


@case("coil maps")
def _(folder):
    scan = sample_multicoil((4, 32, 32), n_coils=3, acceleration=2)
    object.__setattr__(scan, "csm", None)
    return jobs.single("coil maps", lambda: build_physics(scan, "cpu"))


@case("coil maps along a trajectory")
def _(folder):
    scan = readers.read(write_pyqmri(folder / "a.h5"))
    object.__setattr__(scan, "csm", None)
    return jobs.single("coil maps", lambda: build_physics(scan, "cpu"))


CASES["geometry check"] = lambda folder: partial(check_geometry, cone())
CASES["operator check"] = lambda folder: jobs.check_pair(cone(), "cpu")


@cache
def factors_of_cone() -> NormalFactors:
    return fit_now(build_physics(cone(), "cpu"), FitOptions(n_probes=2, n_test=0))


def fitted() -> normal_jobs.Fitted:
    """With nothing remembered of an earlier run."""
    return normal_jobs.Fitted(factors_of_cone().to("cpu"), build_physics(cone(), "cpu"), 0.0)


CASES["N x against its fit"] = lambda folder: lambda stop: normal_jobs.compare(fitted(), lambda: cone().truth)(stop)
CASES["effect on an image"] = lambda folder: lambda stop: normal_jobs.image_error(fitted(), cone().truth)(stop)
CASES["fit on a patch"] = lambda folder: lambda stop: normal_jobs.check_patch(fitted(), 6)(stop)
CASES["fit of the dock"] = lambda folder: normal_jobs.fit(cone(), FitOptions(n_probes=2, n_test=1))
plain("SSIM", lambda folder: [ssim(cone().truth, cone().truth) for _ in range(4)])


@case("training")
def _(folder):
    network = {"prior": {"channels": (4, 4, 4, 4)}, "n_iterations": 1}
    options = {"n_steps": 2, "patch_size": (8, 8, 8), "log_every": 1, "validate_every": 1, "context": "trajectory"}
    plan = TrainingPlan(size=12, levels=(6,), n_objects=1, n_held_out=1, network=network, options=options)
    number = iter(range(1000))
    return lambda stop: train(plan, folder / f"out{next(number)}", "cpu", stop)


@case("evaluation")
def _(folder):
    plan = EvaluationPlan(task="cone-beam", views=(6,), n=2, size=12, methods=("fdk", "cgls"), device="cpu")
    return partial(evaluate, plan)


@case("comparison of methods")
def _(folder):
    return partial(choose, coils(), ChoosePlan(methods=("zero-filled", "cgls"), device="cpu"))


def reading(name, write, **options):
    """A case that reads what ``write(folder)`` wrote."""

    def make(folder):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            path = write(folder)
        return jobs.load(path, options)

    CASES[f"reading {name}"] = make


def tiff_stack(folder: Path) -> Path:
    tifffile.imwrite(folder / "a.tif", files.line_integrals())
    return folder / "a.tif"


def saved_kspace(folder: Path) -> Path:
    np.save(folder / "k.npy", files.kspace())
    return folder / "k.npy"


def packed_scan(folder: Path) -> Path:
    path = write_scan(folder / "scan.h5", cone())
    with h5py.File(path) as file:
        assert file["measurements"].ndim == 3
    return path


reading("a folder of TIFF", lambda folder: files.write_tiff_folder(folder / "views"), rotation_axis="vertical")
reading("a TIFF stack", tiff_stack, angles="0:180")
reading("DXchange", lambda folder: files.write_dxchange(folder / "a.h5", compression="gzip"))
reading("NXtomo", lambda folder: files.write_nxtomo(folder / "a.nxs"))
reading("MRC", lambda folder: files.write_mrc(folder / "a.mrc"), angles="0:180")
reading("an archive", lambda folder: files.write_npz(folder / "a.npz"))
reading("k-space", saved_kspace)
reading("a scan file", packed_scan)
for form in ("k.mrd", "fastmri.h5", "calgary.h5", "meas.dat"):
    reading(form, lambda folder, form=form: mri_samples.write(form, folder))


@pytest.fixture(autouse=True)
def _isolated(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_UNROLL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("napari_unroll.physics.pool.LOOK_S", 60.0)  # looks at the clock's ticks could not be counted


def fresh(make, tmp_path):
    """The cache of fits would make the second run another one."""
    for file in (tmp_path / "cache").glob("normal/*"):
        file.unlink()
    return make


def held(end) -> bool:
    """Whether an estimate had been shown when it ended."""
    shown = [e for e in end.events if isinstance(e, IterationDone) and e.values is not None]
    return bool(shown) or any(isinstance(e, PatchDone) for e in end.events)


@pytest.mark.parametrize("name", CASES)
def test_all_long_work_ends_within_the_step(name, tmp_path):
    make = CASES[name](tmp_path)
    if name.partition(",")[0] in (*registry.METHODS, "region of CT", "volumes on disk"):
        drive(make, Tripping())  # finds what is kept for all runs on a scan, such as the operator's norm
    whole = drive(fresh(make, tmp_path), counter := Tripping())
    assert whole.outcome is Outcome.COMPLETED, whole.events[-1]
    assert counter.looks >= 3, "it hardly looks"
    rng = np.random.default_rng(len(name))
    for how, outcome in HOW.items():
        at = [int(k) for k in rng.integers(1, counter.looks + 1, N_INSIDE)]
        inside = [drive(fresh(make, tmp_path), Tripping(k, how)) for k in at]
        heard = int(rng.integers(1, max(2, len(whole.events) - 2)))
        between = drive(fresh(make, tmp_path), Tripping(None, how), heard)
        for end in (*inside, between):
            assert end.outcome is outcome, (how, at, end.events[-1])
            assert end.looks_after <= MORE_LOOKS, (how, at, end.looks_after)
            assert end.events_after <= MORE_EVENTS, (how, at, end.events[-end.events_after :])
            assert how == "finish" or end.result is None or name == "evaluation"
            check_result(end, whole, name)


@pytest.mark.parametrize("name", ["cgls, cone", "fit dcd", "fit of the dock", "training", "evaluation"])
def test_what_an_outer_driver_asks_passes_through(name, tmp_path):
    """A run inside another work answers its own token only; it must not make a result of the other one's wish."""
    make = CASES[name](tmp_path)
    with pytest.raises(Cancelled), listening(Tripping(40)):
        list(make(Stop()))


def check_result(end, whole, name):
    """What a finished run hands over is of the kind and shape of the whole one's, and finite."""
    if end.outcome is Outcome.FINISHED_EARLY and name.partition(",")[0] in registry.METHODS:
        assert end.result is not None or not held(end)
    if isinstance(end.result, np.ndarray):
        assert end.result.shape == whole.result.shape
        assert end.result.dtype == whole.result.dtype
        assert np.isfinite(end.result).all()
    elif isinstance(end.result, NormalFactors):
        assert end.result.shape == whole.result.shape
        assert bool(end.result.kernel.isfinite().all())
