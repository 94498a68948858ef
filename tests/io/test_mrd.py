"""ISMRMRD files, written by the format's own library."""

import h5py
import numpy as np
import pytest

from napari_unroll.errors import FileFormatError, MissingInformation, ParameterError
from napari_unroll.io.registry import find_reader, read
from napari_unroll.scan.trajectories import NonCartesianSampling, radial_2d
from tests.io import mri_samples as mri

pytest.importorskip("ismrmrd")
SKIPPED = (19, 20, 23, 24, 26, 27, 28)


def close(values, expected):
    np.testing.assert_allclose(values, expected, atol=1e-5 * np.abs(expected).max())


def test_one_slice_without_its_oversampling(tmp_path):
    path = mri.write_mrd(tmp_path / "a.h5", mri.cartesian_readouts(), mri.header())
    assert find_reader(path).name == "ismrmrd"
    scan = read(path)
    close(scan.measurements, mri.kspace()[0][:, None])
    assert scan.grid.spacing_mm == (5, 2, 2)
    assert scan.geometry.mask.all()
    assert any("16 of 32 voxels" in note for note in scan.notes)


def test_the_group_may_have_another_name(tmp_path):
    path = mri.write_mrd(tmp_path / "a.mrd", mri.cartesian_readouts(), mri.header(), group="dataset_1")
    assert read(path).measurements.shape == (3, 1, 12, 16)


def test_slices_become_a_volume_in_the_order_of_their_places(tmp_path):
    readouts = [(*r[:3], {"position": (0, 0, -5.0 * r[4]["slice"])}, r[4]) for r in mri.cartesian_readouts(4)]
    path = mri.write_mrd(tmp_path / "a.h5", readouts, mri.header())
    scan = read(path)
    assert scan.grid.shape == (4, 12, 16)
    assert scan.grid.spacing_mm == (5, 2, 2)
    close(scan.measurements, mri.fft(np.moveaxis(mri.kspace(4)[::-1], 0, 1), 1))
    close(read(path, slice=1).measurements[:, 0], mri.kspace(4)[2])
    with pytest.raises(FileFormatError, match="4 slices, counted from 0"):
        read(path, slice=4)


def test_lines_that_were_left_out_are_left_out(tmp_path):
    path = mri.write_mrd(tmp_path / "a.h5", mri.cartesian_readouts(2, skip=(1, 3)), mri.header())
    mask = read(path).geometry.mask
    assert mask.shape == (2, 12, 16)
    assert (~mask[:, [1, 3]]).all()
    assert mask.sum() == 2 * 10 * 16


def test_slices_sampled_differently_are_asked_for(tmp_path):
    readouts = [r for r in mri.cartesian_readouts(2) if r[4] != {"kspace_encode_step_1": 2, "slice": 1}]
    path = mri.write_mrd(tmp_path / "a.h5", readouts, mri.header())
    with pytest.raises(MissingInformation, match="sampled differently") as caught:
        read(path)
    assert caught.value.options == ("slice",)
    assert read(path, slice=0).geometry.mask.all()


def test_other_readouts_are_skipped_and_reversed_ones_turned(tmp_path):
    wanted = mri.cartesian_readouts()
    for k in range(0, len(wanted), 3):
        samples, _, _, fields, counters = wanted[k]
        wanted[k] = (samples[:, ::-1], None, (22,), fields | {"center_sample": 15}, counters)
    other = [(np.full((3, 32), 1e3), None, (flag,), {}, {}) for flag in SKIPPED[1:]]
    noise = np.random.default_rng(0).normal(size=(40, 3, 32))
    covariance = np.einsum("acn,adn->cd", noise, noise) / (40 * 32)
    heard = [(part, None, (19,), {}, {}) for part in noise]
    path = mri.write_mrd(tmp_path / "a.h5", other + heard + wanted, mri.header())
    scan = read(path)
    whiten = np.sqrt(np.trace(covariance) / 3) * np.linalg.inv(np.linalg.cholesky(covariance))
    close(scan.measurements[:, 0], np.einsum("cd,dyx->cyx", whiten, mri.kspace()[0]))
    assert any("backwards" in note for note in scan.notes)
    assert any("whitened" in note for note in scan.notes)


def test_a_noise_scan_that_says_too_little_is_left(tmp_path):
    heard = [(np.ones((3, 4)), None, (19,), {}, {})]
    scan = read(mri.write_mrd(tmp_path / "a.h5", heard + mri.cartesian_readouts(), mri.header()))
    close(scan.measurements[:, 0], mri.kspace()[0])
    assert any("not whitened" in note for note in scan.notes)


def test_averages_are_averaged_and_repetitions_asked_for(tmp_path):
    once = mri.cartesian_readouts()
    louder = [(3 * r[0], *r[1:4], r[4] | {"average": 1}) for r in once]
    close(read(mri.write_mrd(tmp_path / "a.h5", once + louder, mri.header())).measurements[:, 0], 2 * mri.kspace()[0])
    again = [(3 * r[0], *r[1:4], r[4] | {"repetition": 4}) for r in once]
    path = mri.write_mrd(tmp_path / "b.h5", once + again, mri.header())
    with pytest.raises(MissingInformation, match="2 values of repetition") as caught:
        read(path)
    assert caught.value.options == ("repetition",)
    close(read(path, repetition=4).measurements[:, 0], 3 * mri.kspace()[0])
    with pytest.raises(ParameterError, match="no repetition 2"):
        read(path, repetition=2)


def test_partial_echoes_lie_about_their_centre(tmp_path):
    readouts = [
        (r[0][:, 6:], None, (), r[3] | {"center_sample": 10, "discard_pre": 2, "discard_post": 1}, r[4])
        for r in mri.cartesian_readouts()
    ]
    scan = read(mri.write_mrd(tmp_path / "a.h5", readouts, mri.header()))
    assert scan.grid.shape == (1, 12, 32)
    assert scan.grid.spacing_mm == (5, 2, 2)
    np.testing.assert_array_equal(
        scan.geometry.mask, np.broadcast_to((np.arange(32) >= 8) & (np.arange(32) < 31), (1, 12, 32))
    )
    close(scan.measurements[:, 0, :, 8:31], mri.oversampled(mri.kspace()[0])[..., 8:31])
    assert any("oversampling is kept" in note for note in scan.notes)


def test_three_dimensions(tmp_path):
    full = mri.fft(np.moveaxis(mri.images(4), 0, 1), 1, 2, 3)
    readouts = [
        (full[:, z, y], None, (), {}, {"kspace_encode_step_1": y, "kspace_encode_step_2": z})
        for z in range(4)
        for y in range(12)
    ]
    xml = mri.header(matrix=(16, 12, 4))
    scan = read(mri.write_mrd(tmp_path / "a.h5", readouts, xml))
    close(scan.measurements, full)
    slabs = readouts + [(*r[:4], r[4] | {"slice": 1}) for r in readouts]
    with pytest.raises(MissingInformation, match="2 slabs"):
        read(mri.write_mrd(tmp_path / "b.h5", slabs, xml))


@pytest.mark.parametrize("unit", [1, 16])
def test_spokes_keep_their_trajectory(tmp_path, unit):
    k = radial_2d(9, 16)
    values = np.random.default_rng(0).normal(size=(9, 3, 16))
    density = np.abs(k).max(axis=2) + 0.05
    spokes = [
        (
            values[s],
            np.stack([unit * k[s, :, 2], unit * k[s, :, 1], density[s]], axis=1),
            (),
            {},
            {"kspace_encode_step_1": s},
        )
        for s in range(9)
    ]
    path = mri.write_mrd(tmp_path / "a.h5", spokes, mri.header("radial", (16, 16, 1)))
    scan = read(path)
    assert isinstance(scan.geometry, NonCartesianSampling)
    np.testing.assert_allclose(scan.geometry.trajectory, k, atol=1e-6)
    np.testing.assert_allclose(scan.geometry.weights, density, rtol=1e-6)
    close(scan.measurements, np.moveaxis(values, 0, 1) * np.sqrt(density))
    assert scan.grid.shape == (1, 16, 16)


def test_stacks_of_spokes(tmp_path):
    k = radial_2d(4, 16)[..., :0:-1]
    spokes = [
        (np.ones((2, 16)), k[s], (), {}, {"kspace_encode_step_1": s, "kspace_encode_step_2": z})
        for z in range(3)
        for s in range(4)
    ]
    scan = read(mri.write_mrd(tmp_path / "a.h5", spokes, mri.header("radial", (16, 16, 3))))
    np.testing.assert_allclose(np.unique(scan.geometry.trajectory[..., 0]), [-1 / 3, 0, 1 / 3], atol=1e-6)
    both = spokes[:4] + [(*s[:3], {}, s[4] | {"slice": 1}) for s in spokes[:4]]
    with pytest.raises(MissingInformation, match="2 slices along"):
        read(mri.write_mrd(tmp_path / "b.h5", both, mri.header("radial", (16, 16, 1))))


@pytest.mark.parametrize("n_slices", [1, 3])
def test_echo_planar_lines_are_turned_and_their_phase_is_taken_back(tmp_path, n_slices):
    scan = read(
        mri.write_mrd(tmp_path / "a.h5", mri.echo_planar_readouts(n_slices), mri.header("epi")), slice=n_slices - 1
    )
    close(scan.measurements[:, 0], mri.kspace(n_slices)[n_slices - 1])
    assert any("lag by up to 6.3° per voxel" in note for note in scan.notes)


def test_echo_planar_lines_without_phase_correction_are_told(tmp_path):
    bare = [r for r in mri.echo_planar_readouts() if 24 not in r[2]]
    scan = read(mri.write_mrd(tmp_path / "a.h5", bare, mri.header("epi")))
    assert any("may have ghosts" in note for note in scan.notes)
    assert np.abs(scan.measurements[:, 0] - mri.kspace()[0]).max() > 0.1 * np.abs(mri.kspace()).max()


def test_samples_on_ramps_are_regridded_by_their_trajectory(tmp_path):
    """The sum itself at places that are dense on the ramps; refused where the places are not told."""
    t = np.linspace(-1, 1, 48)
    k = 0.49 * np.sign(t) * np.where(np.abs(t) < 0.7, np.abs(t), np.abs(t) - (np.abs(t) - 0.7) ** 2 / 0.6) / 0.85
    image = mri.fft_inverse(mri.oversampled(mri.kspace())[0], -1)
    x = np.arange(32) - 16
    sums = np.einsum("cyx,kx->cyk", image, np.exp(-2j * np.pi * k[:, None] * x)) / np.sqrt(32)
    lines = [
        (
            sums[:, y, ::-1] if y % 2 else sums[:, y],
            (k[::-1] if y % 2 else k)[:, None],
            (22,) if y % 2 else (),
            {},
            {"kspace_encode_step_1": y},
        )
        for y in range(12)
    ]
    scan = read(mri.write_mrd(tmp_path / "a.h5", lines, mri.header("epi")))
    expected = mri.kspace()[0]
    assert np.linalg.norm(scan.measurements[:, 0] - expected) < 0.05 * np.linalg.norm(expected)
    bare = [(r[0], None, *r[2:]) for r in lines]
    with pytest.raises(FileFormatError, match="48 samples for 32 columns and no trajectory: they need regridding"):
        read(mri.write_mrd(tmp_path / "b.h5", bare, mri.header("epi")))
    ramps = "<trajectoryDescription><identifier>ConventionalEPI</identifier>" + "".join(
        f"<userParameterLong><name>{name}</name><value>{value}</value></userParameterLong>"
        for name, value in {"rampUpTime": 100, "acqDelayTime": 40}.items()
    )
    xml = mri.header("epi").replace("</encoding>", f"{ramps}</trajectoryDescription></encoding>")
    with pytest.raises(FileFormatError, match="on the ramps of the gradient"):
        read(mri.write_mrd(tmp_path / "c.h5", mri.echo_planar_readouts(), xml))


def test_spokes_are_never_taken_for_cartesian_lines(tmp_path):
    spokes = [
        (np.ones((2, 16)), traj, (), {}, {"kspace_encode_step_1": s})
        for s, traj in enumerate(radial_2d(4, 16)[..., :0:-1])
    ]
    with pytest.raises(FileFormatError, match="calls its readouts Cartesian, but their trajectories turn"):
        read(mri.write_mrd(tmp_path / "a.h5", spokes, mri.header()))
    bare = [(samples, None, *rest) for samples, _, *rest in spokes]
    with pytest.raises(FileFormatError, match=r"The radial readouts of b\.h5 should have a trajectory"):
        read(mri.write_mrd(tmp_path / "b.h5", bare, mri.header("radial")))


def test_cartesian_lines_may_tell_their_trajectory(tmp_path):
    x = np.linspace(-16, 15, 32)
    lines = [
        (r[0], np.stack([x, np.full(32, y)], 1)[:: -1 if y % 2 else 1], *r[2:])
        for y, r in enumerate(mri.cartesian_readouts())
    ]
    close(read(mri.write_mrd(tmp_path / "a.h5", lines, mri.header())).measurements[:, 0], mri.kspace()[0])


def test_a_readout_outside_the_matrix(tmp_path):
    readouts = [(*r[:4], r[4] | {"kspace_encode_step_1": 40}) for r in mri.cartesian_readouts()[:3]]
    with pytest.raises(FileFormatError, match="outside the encoded matrix"):
        read(mri.write_mrd(tmp_path / "a.h5", readouts, mri.header()))


@pytest.mark.parametrize(
    ("xml", "words"),
    [
        ("<a", "damaged"),
        ("<!DOCTYPE a [<!ENTITY b 'c'>]><a/>", "no plain"),
        ("<a/>", "no encoding"),
        ("<h><encoding><encodedSpace/></encoding></h>", "matrix"),
    ],
)
def test_headers_that_are_none(tmp_path, xml, words):
    with pytest.raises(FileFormatError, match=words):
        read(mri.write_mrd(tmp_path / "a.h5", mri.cartesian_readouts()[:2], xml))


def test_matrices_beyond_the_samples(tmp_path):
    path = mri.write_mrd(tmp_path / "a.h5", mri.cartesian_readouts(), mri.header(matrix=(32, 1000, 900)))
    with pytest.raises(FileFormatError, match="damaged or incomplete"):
        read(path)


def test_readouts_that_are_shorter_than_declared(tmp_path):
    path = mri.write_mrd(tmp_path / "a.h5", mri.cartesian_readouts(), mri.header())
    with h5py.File(path, "a") as file:
        rows = file["dataset/data"][:]
        rows["head"]["number_of_samples"] = 31
        file["dataset/data"][...] = rows
    with pytest.raises(FileFormatError, match="not the samples"):
        read(path)


def test_a_heap_larger_than_its_file_is_not_allocated(tmp_path):
    path = mri.write_mrd(tmp_path / "a.h5", mri.cartesian_readouts(), mri.header())
    content = bytearray(path.read_bytes())
    at = content.find(b"GCOL\x01")
    content[at + 8 : at + 16] = (5 * 10**9).to_bytes(8, "little")
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match="heap of 5 GB"):
        read(path)


def test_compressed_and_undersampled_on_request(tmp_path):
    path = mri.write_mrd(tmp_path / "a.h5", mri.cartesian_readouts(4), mri.header())
    scan = read(path, virtual_coils=2, undersample=1.5, calibration=3, pattern="lines-y")
    assert scan.measurements.shape == (2, 4, 12, 16)
    assert scan.geometry.acceleration == pytest.approx(1.5)
    assert scan.truth.shape == (4, 12, 16)
    assert ("virtual_coils", 2) in scan.provenance.options
    assert any("virtual coils" in note for note in scan.notes)


def test_numbers_of_no_known_type_are_refused(tmp_path):
    """HDF5 ends the process where it converts a float with another exponent beside lists of samples."""
    path = mri.write_mrd(tmp_path / "odd.h5", mri.cartesian_readouts(), mri.header())
    content = path.read_bytes()
    at = content.index(bytes.fromhex("11201f000400000000002000170800177f000000") + b"slice_dir")
    path.write_bytes(content[: at + 16] + b"\x6f" + content[at + 17 :])
    with pytest.raises(FileFormatError, match="no known type"):
        read(path)
