import numpy as np
import pytest

from napari_unroll.errors import FileFormatError, ParameterError
from napari_unroll.pipeline.sources import SAMPLES, describe, open_scan, sample

SMALL = {
    "cone-beam": {"n": 16, "n_views": 4}, "multi-coil": {"shape": (4, 16, 16), "n_coils": 2},
    "deblur": {"shape": (1, 16, 16)}, "super-resolution": {"shape": (1, 15, 15)},
}  # fmt: skip


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_can_be_generated_again_from_its_provenance(name):
    first = sample(name, SMALL[name])
    again = open_scan(first.provenance.source, dict(first.provenance.options))
    np.testing.assert_array_equal(again.measurements, first.measurements)
    assert again.provenance == first.provenance


def test_unknown_samples_and_options_are_told():
    with pytest.raises(ParameterError, match=r"sample:cone-beam, sample:multi-coil, .*; got 'sample:fan'"):
        open_scan("sample:fan")
    with pytest.raises(ParameterError, match="no option 'size'; it has n, n_views"):
        sample("cone-beam", {"size": 3})
    with pytest.raises(ParameterError, match="kind of object"):
        sample("cone-beam", {"n": 8, "family": "apple"})
    with pytest.raises(ParameterError, match="Option 'n'"):
        sample("cone-beam", {"n": "many"})


def test_a_missing_file_is_told():
    with pytest.raises(FileFormatError, match="no file"):
        open_scan("nowhere.h5")


def test_samples_describe_themselves():
    facts = describe("sample:cone-beam", SMALL["cone-beam"])
    assert facts["volume"] == (16, 16, 16)
    assert facts["options"]["n"] == "default 96"
