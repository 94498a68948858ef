import h5py
import numpy as np
import pytest

from napari_unroll.errors import FileFormatError, MissingInformation, ParameterError, ScanError
from napari_unroll.io.guards import readable, translated
from napari_unroll.io.registry import CONTAINERS, FORMATS, describe, find_reader, grouped, option_help, read
from tests.io import samples


def test_records_are_complete():
    for name, reader in FORMATS.items():
        assert reader.name == name
        assert reader.container in CONTAINERS
        assert reader.title
        assert reader.expects
        assert all(option_help(reader).values())
        assert reader.options() == reader.options()


def test_content_decides_not_the_suffix(tmp_path):
    samples.write_dxchange(tmp_path / "a.dat")
    assert find_reader(tmp_path / "a.dat").name == "dxchange"
    samples.write_mrc(tmp_path / "b.bin")
    assert find_reader(tmp_path / "b.bin").name == "mrc"


@pytest.mark.parametrize("suffix", [".h5", ".nxs", ".npy", ".npz", ".tif", ".mrc", ".png", ""])
def test_empty_missing_and_wrong_files(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    with pytest.raises(FileFormatError, match="no file"):
        read(path)
    path.write_bytes(b"")
    with pytest.raises(FileFormatError, match="empty"):
        read(path)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    with pytest.raises(FileFormatError):
        read(path)


def test_folder_without_measurements(tmp_path):
    with pytest.raises(FileFormatError, match="a folder, but not one"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "a.tif",
            b"\xff\xd8\xff\xe0" + bytes(40),
            "is a JPEG picture, which is not read here; the nearest that are: folder",
        ),
        ("a.nii.gz", b"\x1f\x8b" + bytes(40), "is a NIfTI volume"),
        ("a.tar.gz", b"\x1f\x8b" + bytes(40), "is a gzip archive"),
        ("a.dcm", bytes(128) + b"DICM" + bytes(400), "is a DICOM file"),
        ("a.dat", b"\x07" * 900, "no known kind"),
        ("BM.txt", b"BM is how bitmaps begin", "is a text file, but not one"),
        ("a.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "OLE container"),
    ],
)
def test_what_is_not_read_is_named_for_what_it_is(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FileFormatError) as caught:
        read(tmp_path / name)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 300
    assert str(caught.value).count("; or ") < 4


def test_what_a_container_holds_is_said(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["temperatures"] = [1.0]
    with pytest.raises(
        FileFormatError, match="is an HDF5 file, but not one that is read here; it holds temperatures; expected"
    ):
        read(tmp_path / "a.h5")


def test_forced_format(tmp_path):
    np.save(tmp_path / "a.npy", samples.line_integrals())
    assert read(tmp_path / "a.npy", format="npy", angles="0:180").provenance.format == "npy"
    with pytest.raises(ParameterError, match="no format 'nonsense'"):
        read(tmp_path / "a.npy", format="nonsense")
    with pytest.raises(FileFormatError, match="DXchange HDF5 needs an HDF5 file"):
        read(tmp_path / "a.npy", format="dxchange")


def test_provenance_identifies_the_input(tmp_path):
    path = samples.write_npz(tmp_path / "a.npz")
    first = read(path).provenance
    assert (first.source, first.format, len(first.sha256)) == (str(path), "npz", 64)
    samples.write_npz(path, axis_px=3.0)
    assert read(path).provenance.sha256 != first.sha256
    folder = samples.write_tiff_folder(tmp_path / "views")
    assert len(read(folder).provenance.sha256) == 64


def test_describe_a_scan(tmp_path):
    facts = describe(samples.write_nxtomo(tmp_path / "a.nxs"), source_origin_mm=10, source_detector_mm=20)
    assert facts["geometry"] == "cone beam"
    assert facts["measurements"] == (13, 6, 32)
    assert facts["source to detector mm"] == pytest.approx(20)
    assert facts["angles deg"] == (0, 180)
    assert "axis_px" in facts["options"]
    assert facts["notes"]


def test_describe_says_what_is_missing(tmp_path):
    facts = describe(samples.write_mrc(tmp_path / "a.mrc"))
    assert "angles" in facts["missing"]
    assert "modality" not in facts
    np.save(tmp_path / "k.npy", samples.kspace())
    assert describe(tmp_path / "k.npy")["coils"] == 3


def test_every_parser_error_becomes_a_sentence(tmp_path):
    with (
        pytest.raises(FileFormatError, match=r"a\.h5 was expected to be a thing, but reading it failed"),
        translated(tmp_path / "a.h5", "a thing"),
    ):
        raise KeyError("inner")
    with pytest.raises(FileFormatError, match="do not fit"), translated(tmp_path / "a.h5", "a thing"):
        raise ScanError("parts do not fit")
    with pytest.raises(MissingInformation), translated(tmp_path / "a.h5", "a thing"):
        raise MissingInformation("no angles", "angles")


def test_sizes_in_words():
    assert [readable(n) for n in (12, 3400, 10**9, 4 * 10**30)] == ["12 bytes", "3.4 kB", "1 GB", "4e+12 EB"]


def test_facts_say_where_they_come_from(tmp_path):
    np.save(tmp_path / "a.npy", samples.line_integrals())
    tree = grouped(describe(tmp_path / "a.npy", angles="0:180", axis_px=17.25))
    assert tree["given"] == {"angles deg": (0.0, 180.0), "rotation axis column": 17.25}
    assert {"geometry", "pixel mm"} <= tree["assumed"].keys()
    assert "measurements" in tree["read"]
    assert "voxel mm" in tree["inferred"]
    assert "contradictions" not in tree
    assert "missing" not in tree


def test_origins_follow_the_file(tmp_path):
    tree = grouped(describe(samples.write_nxtomo(tmp_path / "a.nxs")))
    assert tree["read"]["pixel mm"] == pytest.approx((0.0065, 0.0065))
    assert tree["inferred"]["angles deg"] == pytest.approx((0, 180))
    assert tree["inferred"]["rotation axis column"] == pytest.approx(17.25, abs=0.3)


def test_what_is_missing_and_what_contradicts_is_in_the_tree(tmp_path):
    np.save(tmp_path / "a.npy", samples.line_integrals())
    assert "'angles'" in grouped(describe(tmp_path / "a.npy"))["missing"]
    facts = describe(tmp_path / "a.npy", angles="0:3.14159")
    assert "radians" in grouped(facts)["contradictions"][0]
    assert facts["origins"]["angles deg"] == "given"


def test_an_assumed_voxel_is_told(tmp_path):
    np.save(tmp_path / "k.npy", samples.kspace())
    assert grouped(describe(tmp_path / "k.npy"))["assumed"] == {"voxel mm": (1.0, 1.0, 1.0)}
