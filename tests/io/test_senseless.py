"""Files that are sound but for one senseless number: one short sentence, no crash, nothing allocated for it."""

import tracemalloc

import numpy as np
import pytest

from napari_unroll.errors import FileFormatError, MissingInformation, ParameterError
from napari_unroll.io.registry import read
from tests.io import samples, senseless


@pytest.mark.parametrize("name", senseless.FILES)
def test_a_senseless_number_is_one_sentence(name, tmp_path):
    path, options = senseless.write(name, tmp_path)
    tracemalloc.start()
    try:
        with pytest.raises((FileFormatError, ParameterError)) as caught:
            read(path, **options)
        assert tracemalloc.get_traced_memory()[1] < 60_000_000
    finally:
        tracemalloc.stop()
    text = str(caught.value)
    assert len(text) <= 280, text
    assert "\n" not in text
    assert "reading it failed" not in text, f"no sentence of ours: {text}"


@pytest.mark.parametrize(
    ("name", "option", "right"),
    [
        ("pixel nan.npz", "pixel_mm", 0.1),
        ("axis 1e+19.npz", "axis_px", 16),
        ("source inf.npz", "source_origin_mm", 60),
        ("detector -5.0.npz", "source_detector_mm", 90),
        ("pixel inf.nxs", "pixel_mm", 0.1),
        ("fei pixel nan.mrc", "pixel_mm", 0.1),
        ("num_angles 400000000.0.h5", "angles", "0:180"),
        ("rotation step nan.h5", "angles", "0:180"),
        ("angle nan.nxs", "angles", "0:180"),
    ],
)
def test_the_sentence_names_the_option_that_takes_its_place(name, option, right, tmp_path):
    path, _ = senseless.write(name, tmp_path)
    with pytest.raises(FileFormatError) as caught:
        read(path)
    assert f"'{option}'" in str(caught.value) or option == "angles"
    assert isinstance(caught.value, MissingInformation) or option == "angles"
    assert read(path, **{option: right}).geometry.n_views == samples.N_VIEWS


def test_a_pixel_of_zero_is_one_that_is_not_known(tmp_path):
    for name, write in (("a.nxs", senseless.nxtomo(pixel=0.0)), ("b.mrc", senseless.fei(0.0))):
        write(tmp_path / name)
        assert any("No pixel size known" in note for note in read(tmp_path / name).notes)


def test_values_that_float32_cannot_hold_are_repaired_or_refused(tmp_path):
    stack = samples.line_integrals().astype(np.float64)
    stack[3, 2, 4] = 1e300
    np.save(tmp_path / "one.npy", stack)
    assert any("Repaired 1 bad" in note for note in read(tmp_path / "one.npy", angles="0:180").notes)
    np.save(tmp_path / "all.npy", np.full_like(stack, 1e300))
    with pytest.raises(FileFormatError, match="no good pixel"):
        read(tmp_path / "all.npy", angles="0:180")
