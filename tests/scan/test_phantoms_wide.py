"""More kinds of objects, by their laws: within the field of view, the same at every resolution, unlike each other."""

import numpy as np
import pytest

from napari_unroll.scan.phantoms_ct import FAMILIES
from napari_unroll.scan.phantoms_wide import WIDE_FAMILIES, wide_family_of, wide_volume
from napari_unroll.scan.random_fields import Space
from napari_unroll.scan.resample import block_mean

NEW = sorted(WIDE_FAMILIES.keys() - FAMILIES.keys())
SHAPE = (40, 40, 40)


@pytest.mark.parametrize("family", NEW)
def test_objects_are_matter_within_the_field_of_view(family):
    outside = np.broadcast_to(Space(SHAPE).cylinder(1.0) < 0, SHAPE)
    for seed in range(4):
        volume = WIDE_FAMILIES[family](SHAPE, seed)
        assert volume.dtype == np.float32
        assert volume.min() >= 0
        assert 0.1 < volume.max() < 2.5
        assert volume[outside].max() == 0
        assert 0.03 < (volume > 0.02).mean() < 0.8


@pytest.mark.parametrize("family", NEW)
def test_the_same_seed_is_the_same_object_at_every_resolution(family):
    """Two of a seed differ by less than two of different seeds do; sharp grains differ at their edges."""
    fine, coarse, other = (
        WIDE_FAMILIES[family](shape, seed) for shape, seed in (((80,) * 3, 5), (SHAPE, 5), (SHAPE, 6))
    )
    mean = block_mean(fine, SHAPE)
    assert np.abs(coarse - mean).mean() < 0.3 * np.abs(coarse - other).mean()


def test_slabs_of_a_volume_are_those_of_the_whole(monkeypatch):
    whole = [make(SHAPE, 2) for make in WIDE_FAMILIES.values()]
    monkeypatch.setattr("napari_unroll.scan.random_fields.PART", 40 * 40 * 7)
    for volume, make in zip(whole, WIDE_FAMILIES.values(), strict=True):
        np.testing.assert_allclose(make(SHAPE, 2), volume, atol=1e-5)


def test_plates_are_piecewise_constant():
    """Many voxels of a machined part equal their neighbours, few of any other object do."""

    def flat(volume):
        matter = volume[:, :, :-1] > 0.05
        return (np.abs(np.diff(volume, axis=2)) < 1e-6)[matter].mean()

    shares = {name: np.mean([flat(make(SHAPE, seed)) for seed in range(3)]) for name, make in WIDE_FAMILIES.items()}
    assert shares["plates"] > 0.4
    assert max(share for name, share in shares.items() if name != "plates") < 0.25


def test_all_families_are_drawn():
    assert {wide_family_of(seed) for seed in range(100)} == set(WIDE_FAMILIES)
    assert (wide_volume(SHAPE, 1) == wide_volume(SHAPE, 1)).all()
