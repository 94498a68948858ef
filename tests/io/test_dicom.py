"""A DICOM series written by pydicom becomes a volume that lies where its slices say."""

import numpy as np
import pytest

from napari_unroll.errors import FileFormatError
from napari_unroll.io.any_volume import read_any_volume, volume_files
from napari_unroll.io.writers import read_volume

pydicom = pytest.importorskip("pydicom")
VALUES = np.random.default_rng(0).integers(0, 3000, (4, 5, 6)).astype(np.int16)


def write_slice(path, k, *, pixels=None, position=None, series="1.2.3", **changed):
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, CTImageStorage
    meta.MediaStorageSOPInstanceUID = f"1.2.3.{k + 1}"
    data = FileDataset(path, {}, file_meta=meta, preamble=b"\0" * 128)
    pixels = VALUES[k] if pixels is None else pixels
    data.SOPClassUID, data.SOPInstanceUID, data.SeriesInstanceUID = CTImageStorage, f"1.2.3.{k + 1}", series
    data.PatientName, data.Modality, data.SeriesDescription = "Doe^Jane", "CT", "head"
    data.Rows, data.Columns = pixels.shape
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 1
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
    data.PixelSpacing, data.SliceThickness = [0.5, 0.25], 9
    data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    data.ImagePositionPatient = [-1.0, 2.0, 10 + 1.5 * k] if position is None else position
    data.RescaleSlope, data.RescaleIntercept = 2, -1024
    data.PixelData = pixels.tobytes()
    for name, value in changed.items():
        if value is None:
            delattr(data, name)
        else:
            setattr(data, name, value)
    data.save_as(path, enforce_file_format=True)


@pytest.fixture
def series(tmp_path):
    """Names in another order than positions."""
    for k in range(len(VALUES)):
        write_slice(tmp_path / f"{'dbca'[k]}.dcm", k)
    return tmp_path


def test_slices_are_sorted_rescaled_and_placed(series):
    volume = read_volume(series)
    np.testing.assert_array_equal(volume.values, 2.0 * VALUES - 1024)
    assert volume.grid.spacing_mm == pytest.approx((1.5, 0.5, 0.25))
    assert volume.grid.origin_mm == pytest.approx((10, 2, -1))
    assert volume.record["Modality"] == "CT"
    assert "Doe" not in str(volume.record)


def test_a_file_names_its_series(series):
    np.testing.assert_array_equal(read_volume(series / "a.dcm").values, read_volume(series).values)


def test_training_reads_series(series):
    assert volume_files(series) == [series]
    np.testing.assert_array_equal(read_any_volume(series), 2.0 * VALUES - 1024)


def test_missing_slices_are_told(series):
    (series / "b.dcm").unlink()
    with pytest.raises(FileFormatError, match=r"1.5 to 3 mm apart"):
        read_volume(series)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"series": "9.9"}, "2 DICOM series"),
        ({"PixelSpacing": [1, 1]}, "differs from"),
        ({"pixels": np.zeros((3, 3), np.int16)}, "differs from"),
        ({"ImagePositionPatient": None}, "does not say where it lies"),
        ({"NumberOfFrames": 3}, "3 frames and the places of 0"),
        ({"PixelData": b"\0\0"}, "e.dcm|DICOM"),
    ],
)
def test_what_does_not_fit_is_one_sentence(series, changed, words):
    write_slice(series / "e.dcm", 3, position=[-1.0, 2.0, 16.0], **changed)
    with pytest.raises(FileFormatError, match=words):
        read_volume(series)


def write_frames(path, order, *, shared=True, positions=None, **changed):
    """An enhanced image whose frames are the slices ``order``, each rescaled by its own slope."""
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    def group(**attributes):
        one = Dataset()
        for name, value in attributes.items():
            setattr(one, name, value)
        return Sequence([one])

    measures = group(PixelSpacing=[0.5, 0.25], SliceThickness=9)
    orientation = group(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    frames = []
    for k in order:
        frame, z = Dataset(), 10 + 1.5 * k if positions is None else positions[k]
        frame.PlanePositionSequence = group(ImagePositionPatient=[-1.0, 2.0, z])
        frame.PixelValueTransformationSequence = group(RescaleSlope=2 + k, RescaleIntercept=-1024, RescaleType="US")
        if not shared:
            frame.PixelMeasuresSequence, frame.PlaneOrientationSequence = measures, orientation
        frames.append(frame)
    both = Dataset()
    if shared:
        both.PixelMeasuresSequence, both.PlaneOrientationSequence = measures, orientation
    write_slice(
        path, 0, pixels=VALUES[0], **{
            "PixelData": VALUES[list(order)].tobytes(), "NumberOfFrames": len(order),
            "PerFrameFunctionalGroupsSequence": Sequence(frames), "SharedFunctionalGroupsSequence": Sequence([both]),
            "ImagePositionPatient": None, "ImageOrientationPatient": None, "PixelSpacing": None,
            "RescaleSlope": None, "RescaleIntercept": None, "SliceThickness": None,
        } | changed,
    )  # fmt: skip
    return path


@pytest.mark.parametrize("shared", [True, False])
def test_frames_of_one_file_are_sorted_rescaled_and_placed(tmp_path, shared):
    path = write_frames(tmp_path / "frames.dcm", (2, 0, 3, 1), shared=shared)
    write_frames(tmp_path / "other.dcm", (0, 1), SeriesInstanceUID="9.9")
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.values, VALUES * (2.0 + np.arange(4))[:, None, None] - 1024)
    assert volume.grid.spacing_mm == pytest.approx((1.5, 0.5, 0.25))
    assert volume.grid.origin_mm == pytest.approx((10, 2, -1))
    assert "Doe" not in str(volume.record)


def test_a_folder_of_one_file_with_frames_is_a_volume(tmp_path):
    path = write_frames(tmp_path / "frames.dcm", (1, 0, 2))
    np.testing.assert_array_equal(read_any_volume(tmp_path), read_volume(path).values)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"positions": [0, 1, 2, 4]}, "missing or doubled"),
        ({"positions": [0, 1, 0, 1]}, "several images"),
        ({"NumberOfFrames": 400_000_000}, "400000000 frames and the places of 4"),
        ({"Rows": 60_000, "Columns": 60_000}, "no measurement compresses"),
        ({"PixelData": b"\0\0"}, r"frames\.dcm"),
        ({"SharedFunctionalGroupsSequence": []}, "ImageOrientationPatient, PixelSpacing"),
    ],
)
def test_frames_that_do_not_fit_are_one_sentence(tmp_path, changed, words):
    path = write_frames(tmp_path / "frames.dcm", range(4), **changed)
    with pytest.raises(FileFormatError, match=words):
        read_volume(path)


def test_a_damaged_series_is_refused_in_words(tmp_path):
    (tmp_path / "a.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 300)
    with pytest.raises(FileFormatError, match=r"a\.dcm|DICOM|" + tmp_path.name):
        read_volume(tmp_path)


def test_without_pydicom_the_command_is_named(series, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
    with pytest.raises(FileFormatError, match="pydicom, which is not installed"):
        read_volume(series)
