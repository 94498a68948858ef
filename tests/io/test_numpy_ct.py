import numpy as np
import pytest

from napari_unroll.errors import FileFormatError, MissingInformation, ParameterError
from napari_unroll.io.registry import read
from napari_unroll.scan.geometry import ConeBeam, ParallelBeam
from tests.io import samples


@pytest.fixture
def stack(tmp_path):
    np.save(tmp_path / "p.npy", samples.line_integrals())
    return tmp_path / "p.npy"


def vectors(kind=ParallelBeam, **more):
    return kind.circular(
        angles_rad=np.deg2rad(samples.ANGLES_DEG),
        detector_shape=(samples.ROWS, samples.COLS),
        pixel_mm=(0.2, 0.2),
        **more,
    )


def test_plain_array_with_options(stack):
    scan = read(stack, angles="0:180", pixel_mm="0.2", axis_px="17.25")
    np.testing.assert_array_equal(scan.measurements, samples.line_integrals())
    expected = ParallelBeam.circular(
        angles_rad=np.deg2rad(samples.ANGLES_DEG),
        detector_shape=(samples.ROWS, samples.COLS),
        pixel_mm=(0.2, 0.2),
        detector_offset_mm=(0.0, (15.5 - 17.25) * 0.2),
    )
    assert scan.geometry == expected
    assert scan.provenance.options == (("angles", "0:180"), ("pixel_mm", 0.2), ("axis_px", 17.25))


def test_reverse_turns_the_other_way(stack):
    there, back = read(stack, angles="0:90"), read(stack, angles="0:90", reverse=True)
    np.testing.assert_allclose(there.geometry.angles_rad, -back.geometry.angles_rad)


def test_astra_order_and_single_row(tmp_path):
    np.save(tmp_path / "a.npy", samples.line_integrals().swapaxes(0, 1))
    scan = read(tmp_path / "a.npy", order="row,view,column", angles="0:180")
    np.testing.assert_array_equal(scan.measurements, samples.line_integrals())
    np.save(tmp_path / "b.npy", samples.line_integrals()[:, 0])
    assert read(tmp_path / "b.npy", angles="0:180").measurements.shape == (samples.N_VIEWS, 1, samples.COLS)


@pytest.mark.parametrize("suffix", [".txt", ".npy"])
def test_vectors_from_a_file(stack, suffix):
    cone = vectors(ConeBeam, source_origin_mm=60.0, source_detector_mm=90.0)
    side = stack.with_name("vectors" + suffix)
    np.save(side, cone.vectors) if suffix == ".npy" else np.savetxt(side, cone.vectors, fmt="%.12g")
    scan = read(stack, vectors=side.name)
    assert scan.geometry == cone
    assert any("Cone beam (inferred" in note for note in scan.notes)
    np.save(stack.with_name("p3.npy"), vectors().vectors)
    assert read(stack, vectors="p3.npy").geometry == vectors()
    assert isinstance(read(stack, vectors=side.name, beam="parallel").geometry, ParallelBeam)
    with pytest.raises(FileFormatError, match="source of view 0 lies inside the volume"):
        read(stack, vectors="p3.npy", beam="cone")


def test_vectors_of_another_scan(stack):
    np.save(stack.with_name("v.npy"), vectors().vectors[:4])
    with pytest.raises(FileFormatError, match="one row of 12 for each of 13 views"):
        read(stack, vectors="v.npy")


def test_archive_brings_its_geometry(tmp_path):
    path = samples.write_npz(
        tmp_path / "a.npz", axis_px=17.0, pixel_mm=0.1, source_origin_mm=50.0, source_detector_mm=75.0
    )
    scan = read(path)
    np.testing.assert_allclose(scan.measurements, samples.line_integrals(), atol=1e-5)
    assert scan.geometry.source_detector_mm == pytest.approx(75)
    assert scan.geometry.pixel_mm == pytest.approx((0.1, 0.1))
    assert "Values taken as transmission by their name." in scan.notes


def test_archive_with_fields_and_vectors(tmp_path):
    raw, flat, dark = samples.counts()
    np.savez(tmp_path / "a.npz", projections=raw, flats=flat[None], darks=dark, vectors=vectors().vectors)
    scan = read(tmp_path / "a.npz")
    np.testing.assert_allclose(scan.measurements, samples.line_integrals(), atol=2e-4)
    assert scan.geometry == vectors()


def test_options_win_over_the_archive(tmp_path):
    scan = read(samples.write_npz(tmp_path / "a.npz"), angles="0:90", view_step=2)
    assert np.rad2deg(scan.geometry.angles_rad[-1]) == pytest.approx(90)
    assert scan.geometry.n_views == 7


def test_one_distance_asks_for_the_other(stack):
    with pytest.raises(MissingInformation, match="source_detector_mm") as caught:
        read(stack, angles="0:360", source_origin_mm=10)
    assert caught.value.options == ("source_detector_mm",)


def test_exchanged_distances(stack):
    with pytest.raises(FileFormatError, match="exchanged"):
        read(stack, angles="0:360", source_origin_mm=100, source_detector_mm=10)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"bin": 0}, "bin"),
        ({"bin": "two"}, "bin"),
        ({"values": "photons"}, "values"),
        ({"colour": 3}, "no option 'colour'"),
        ({"angles": "0:180", "bin": 40}, "leaves nothing"),
        ({"angles": "0:18-0"}, "first:last"),
    ],
)
def test_wrong_options(stack, options, words):
    with pytest.raises(ParameterError, match=words):
        read(stack, **options)


def test_nan_everywhere(tmp_path):
    np.save(tmp_path / "a.npy", np.full((3, 4, 5), np.nan, np.float32))
    with pytest.raises(FileFormatError, match="no good pixel"):
        read(tmp_path / "a.npy", angles="0:90")


def test_hot_pixels(tmp_path):
    values = samples.line_integrals()
    values[3, 2, 30] = 50
    np.save(tmp_path / "a.npy", values)
    assert read(tmp_path / "a.npy", angles="0:180").measurements.max() == 50
    scan = read(tmp_path / "a.npy", angles="0:180", hot_pixels=20)
    assert scan.measurements.max() < 2


def test_numbers_where_text_is_expected(tmp_path):
    """A command line turns flats=2000 into a number."""
    np.save(tmp_path / "a.npy", (2000 * np.exp(-samples.line_integrals())).astype(np.float32))
    scan = read(tmp_path / "a.npy", angles="0:180", flats=2000, darks=0)
    np.testing.assert_allclose(scan.measurements, samples.line_integrals(), atol=1e-5)
