import pytest
import torch
from torch.nn.functional import interpolate

from napari_unroll.methods.networks import feature_grid
from napari_unroll.methods.networks.feature_grid import FeatureGrid, FeatureGridConfig, level_shapes

SHAPE = (5, 9, 12)


def random_grid(is_complex=False):
    """A network whose volume is not zero."""
    grid = FeatureGrid(FeatureGridConfig(level_shapes(SHAPE, 3, 1.5, 2), 3, 8, 2, is_complex=is_complex))
    torch.manual_seed(1)
    with torch.no_grad():
        for p in grid.parameters():
            p.normal_(0, 0.5)
    return grid


@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize("shape", [SHAPE, (1, 7, 3), (11, 4, 2)])
def test_it_is_a_volume_of_any_shape_and_kind_that_starts_at_zero(shape, is_complex):
    config = FeatureGridConfig(level_shapes(SHAPE, 3, 1.5, 2), is_complex=is_complex)
    x = FeatureGrid(config)(shape)
    assert x.shape == (1, 1, *shape)
    assert x.is_complex() == is_complex
    assert not x.abs().any()


def test_the_finest_grid_has_its_pitch_and_the_others_are_coarser():
    assert level_shapes((1, 64, 65), 3, 2, 2) == ((1, 8, 9), (1, 16, 17), (1, 32, 33))
    assert level_shapes((3, 2, 8), 2, 0.5, 100) == ((2, 2, 2), (3, 2, 8))


def test_features_are_interpolated_linearly():
    """As torch interpolates three axes at once."""
    level = torch.randn(2, 3, 4, 5)
    wanted = interpolate(level[None], size=SHAPE, mode="trilinear")[0]
    torch.testing.assert_close(feature_grid._at_voxels(level, SHAPE, slice(0, 5)), wanted)


@pytest.mark.parametrize("is_complex", [False, True])
def test_slabs_are_the_volume_and_have_its_gradients(is_complex, monkeypatch):
    grid, shape = random_grid(is_complex), (7, 10, 12)
    weights = torch.randn(1, 1, *shape)

    def volume_and_gradients():
        grid.zero_grad()
        x = grid(shape)
        (weights * x.abs().square()).sum().backward()
        return x.detach(), [p.grad.clone() for p in grid.parameters()]

    whole = volume_and_gradients()
    monkeypatch.setattr(feature_grid, "SLAB_VOXELS", 2 * 10 * 12)
    torch.testing.assert_close(volume_and_gradients(), whole, rtol=1e-4, atol=1e-4)


def test_the_seed_is_all_that_the_first_weights_depend_on():
    config = FeatureGridConfig(level_shapes(SHAPE, 2, 1.5, 2))
    torch.manual_seed(5)
    one = FeatureGrid(config, seed=3).state_dict()
    torch.manual_seed(6)
    same, other = FeatureGrid(config, seed=3).state_dict(), FeatureGrid(config, seed=4).state_dict()
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)
