"""One volume is convolved as quickly as each of two, and to the same values."""

import pytest
import torch

from napari_unroll.methods.networks.drunet import DRUNetConfig
from napari_unroll.methods.networks.one_volume import one_volume
from napari_unroll.methods.networks.prior import Prior
from napari_unroll.methods.networks.shallow import ShallowConfig

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN")


def operations(work) -> set[str]:
    """Names of what torch does."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        work()
    return {event.key for event in profile.key_averages()}


@pytest.mark.parametrize("config", [DRUNetConfig(channels=(4, 4, 8, 8)), ShallowConfig()], ids=lambda c: c.kind)
def test_one_volume_is_no_slower_than_one_of_two(config):
    torch.manual_seed(0)
    prior = Prior(config).eval()
    x = torch.rand(2, 1, 8, 16, 16)
    with torch.no_grad():
        assert not any("slow_conv3d" in name for name in operations(lambda: prior(x[:1], 0.1)))
        alone = torch.cat([prior(x[:1], 0.1), prior(x[1:], 0.1)])
        torch.testing.assert_close(alone, prior(x, 0.1), rtol=1e-4, atol=1e-5)


def test_every_kind_of_convolution_gives_its_own_values():
    x = torch.randn(1, 2, 7, 9, 8)
    for options in (
        {"padding": 1},
        {"stride": (1, 2, 2)},
        {"dilation": 2, "padding": 2},
        {"groups": 2},
        {"bias": False},
    ):
        layer = torch.nn.Conv3d(2, 4, 3, **options)
        with torch.no_grad():
            wanted = layer(x)
            with one_volume(x):
                torch.testing.assert_close(layer(x), wanted, rtol=1e-4, atol=1e-5)
    same = torch.nn.Conv3d(2, 4, 3, padding="same")
    with torch.no_grad(), one_volume(x):
        assert same(x).shape == (1, 4, 7, 9, 8)


def test_where_gradients_are_wanted_torch_chooses():
    layer, x = torch.nn.Conv3d(1, 1, 3), torch.randn(1, 1, 4, 4, 4)

    def work():
        with one_volume(x):
            layer(x).sum().backward()

    assert not any("mkldnn" in name for name in operations(work))
    assert layer.weight.grad is not None
