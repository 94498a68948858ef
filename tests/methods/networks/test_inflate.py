"""A 3-D prior inflated from a 2-D one does the same on volumes constant along z."""

import pytest
import torch

from napari_unroll.errors import WeightsError
from napari_unroll.methods.algorithms.network import Network, NetworkConfig
from napari_unroll.methods.networks.dncnn import CNNConfig, DnCNNConfig
from napari_unroll.methods.networks.drunet import DRUNetConfig
from napari_unroll.methods.networks.inflate import inflate, with_neighbours
from napari_unroll.methods.networks.prior import Prior
from tests.methods.operators import Plain

KINDS = [(DRUNetConfig, {"channels": (4, 6, 8, 10)}), (CNNConfig, {"width": 4, "layers": 3})]


@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize(("kind", "size"), [*KINDS, (DnCNNConfig, {"width": 4, "layers": 3, "batch_norm": True})])
def test_volumes_constant_along_z_pass_as_their_slices_do(is_complex, kind, size):
    torch.manual_seed(0)
    flat = Prior(kind(dim=2, complex_valued=is_complex, **size)).eval()
    thick = inflate(flat).eval()
    assert thick.config.dim == 3
    dtype = torch.complex64 if is_complex else torch.float32
    x = torch.randn(1, 1, 1, 19, 16, dtype=dtype).expand(1, 1, 12, 19, 16)
    with torch.no_grad():
        expected, found = flat(x, 0.1), thick(x, 0.1)
    assert float((expected - x).abs().max()) > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_volume_network_is_not_inflated_again():
    with pytest.raises(WeightsError, match="several slices already"):
        inflate(Prior(DRUNetConfig(channels=(4, 4, 4, 4))))


@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize(("kind", "size"), KINDS)
def test_neighbours_have_no_effect_until_they_are_trained(is_complex, kind, size):
    torch.manual_seed(0)
    flat = Prior(kind(dim=2, complex_valued=is_complex, **size))
    x = torch.randn(2, 1, 5, 9, 16, dtype=torch.complex64 if is_complex else torch.float32)
    sees = with_neighbours(flat, 2)
    torch.testing.assert_close(sees(x, 0.1), flat(x, 0.1))
    with torch.no_grad():
        next(p for p in sees.backbone.parameters() if p.ndim > 2).normal_()
    more = with_neighbours(sees, 3)
    assert more.config.neighbours == 3
    torch.testing.assert_close(more(x, 0.1), sees(x, 0.1))
    for refused in (lambda: with_neighbours(more, 2), lambda: inflate(more)):
        with pytest.raises(WeightsError, match="slices"):
            refused()


def test_recomputed_activations_give_the_same_gradients():
    torch.manual_seed(0)
    network = Network(NetworkConfig(prior=DRUNetConfig(channels=(4, 4, 4, 4)), n_iterations=2))
    x = torch.randn(1, 1, 8, 8, 8)
    gradients = []
    for recompute in (False, True):
        network.zero_grad()
        source = Plain(lambda u: u - x, lambda g: 0.5 * g)
        network(x, source, recompute).iterates[-1].square().sum().backward()
        gradients.append([p.grad.clone() for p in network.parameters()])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)
