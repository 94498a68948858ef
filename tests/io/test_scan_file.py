from dataclasses import replace

import h5py
import numpy as np
import pytest

from napari_unroll.errors import FileFormatError, ParameterError
from napari_unroll.io.registry import find_reader, read
from napari_unroll.io.scan_file import read_scan, write_scan
from napari_unroll.scan.blurring import Blur
from napari_unroll.scan.geometry import ConeBeam, VolumeGrid
from napari_unroll.scan.scan import Provenance, Scan
from tests.io import samples


@pytest.fixture
def cone():
    rng = np.random.default_rng(0)
    geometry = ConeBeam.circular(
        angles_rad=rng.uniform(0, 6, 5),
        source_origin_mm=60.0,
        source_detector_mm=100.0,
        detector_shape=(4, 7),
        pixel_mm=(0.3, 0.2),
    )
    return Scan(
        measurements=rng.normal(size=(5, 4, 7)).astype(np.float32),
        geometry=geometry,
        grid=VolumeGrid(shape=(3, 4, 5), spacing_mm=(0.1, 0.2, 0.3), center_mm=(0.1, 1 / 3, -0.2)),
        truth=rng.normal(size=(3, 4, 5)).astype(np.float32),
        name="a scan with ünicode",
        provenance=Provenance(source="generator", format="sample", seed=7, options=(("bin", 2), ("angles", "0:180"))),
        notes=("first", "zweite µ"),
    )


def assert_identical(a: Scan, b: Scan) -> None:
    for name in ("measurements", "csm", "truth"):
        first, second = getattr(a, name), getattr(b, name)
        assert (first is None) == (second is None)
        if first is not None:
            assert first.dtype == second.dtype
            assert first.tobytes() == second.tobytes()
    assert a.fingerprint() == b.fingerprint()
    assert type(a.geometry) is type(b.geometry)
    assert (a.grid, a.name, a.provenance, a.notes) == (b.grid, b.name, b.provenance, b.notes)


def test_cone_beam_round_trip(tmp_path, cone):
    path = write_scan(tmp_path / "a.h5", cone)
    assert_identical(read_scan(path), cone)
    assert find_reader(path).name == "scan"
    again = read(path)
    assert (again.provenance.source, again.provenance.seed) == (str(path), cone.provenance.seed)
    assert_identical(replace(again, provenance=cone.provenance, notes=cone.notes), cone)


def test_parallel_and_kspace_round_trip(tmp_path):
    np.save(tmp_path / "p.npy", samples.line_integrals())
    np.savez(tmp_path / "k.npz", kspace=samples.kspace(), csm=samples.kspace())
    for name, options in (("p.npy", {"angles": "0:180"}), ("k.npz", {})):
        scan = read(tmp_path / name, **options)
        assert_identical(read_scan(write_scan(tmp_path / f"{name}.h5", scan)), scan)


def test_refuses_to_replace(tmp_path, cone):
    path = write_scan(tmp_path / "a.h5", cone)
    with pytest.raises(ParameterError, match="exists already"):
        write_scan(path, cone)
    renamed = replace(cone, name="second")
    assert read_scan(write_scan(path, renamed, overwrite=True)).name == "second"


def test_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path, cone):
    path = write_scan(tmp_path / "a.h5", cone)
    broken = replace(cone, provenance=Provenance(options=(("bad", object()),)))
    with pytest.raises(TypeError):
        write_scan(path, broken, overwrite=True)
    assert_identical(read_scan(path), cone)
    assert [p.name for p in tmp_path.iterdir()] == ["a.h5"]


def test_newer_version_and_missing_parts(tmp_path, cone):
    path = write_scan(tmp_path / "a.h5", cone)
    with h5py.File(path, "a") as file:
        file.attrs["napari_unroll_scan"] = 99
    with pytest.raises(FileFormatError, match="version 99"):
        read(path)
    with h5py.File(path, "a") as file:
        file.attrs["napari_unroll_scan"] = 1
        del file["measurements"]
    with pytest.raises(FileFormatError, match="lacks 'measurements'"):
        read(path)


def test_direct_reading_gives_sentences_too(tmp_path):
    with pytest.raises(FileFormatError, match="no file"):
        read_scan(tmp_path / "none.h5")
    samples.write_dxchange(tmp_path / "a.h5")
    with pytest.raises(FileFormatError, match="version 0"):
        read_scan(tmp_path / "a.h5")


@pytest.mark.parametrize("blur", [Blur(), Blur(factor=3), Blur(size=5, variance=0.7, along_z=True)])
def test_a_blurred_image_round_trip(tmp_path, blur):
    sampling = blur.sampling((6, 12, 15))
    values = np.random.default_rng(0).normal(size=sampling.measurement_shape).astype(np.float32)
    scan = Scan(measurements=values, geometry=sampling, grid=VolumeGrid(shape=(6, 12, 15)), truth=np.ones((6, 12, 15)))
    path = write_scan(tmp_path / "image.h5", scan)
    assert_identical(read_scan(path), scan)
    assert read(path).geometry == sampling
