import pytest
import torch

from napari_unroll.methods.classical.wavelets import Wavelets, WaveletSparsity

SHAPES = [(8, 8, 8), (9, 10, 11), (1, 17, 20), (3, 13, 16)]
DTYPES = [torch.float64, torch.complex128]
SHIFTS = [(0, 0, 0), (3, 1, 2)]


def noise(shape, dtype=torch.float64, seed=0):
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shift", SHIFTS, ids=["", "shifted"])
@pytest.mark.parametrize("wavelet", ["haar", "db4"])
@pytest.mark.parametrize("dtype", DTYPES, ids=["real", "complex"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_transform_is_an_isometry_and_synthesis_its_adjoint(shape, dtype, wavelet, shift):
    w, x = Wavelets(shape, wavelet), noise(shape, dtype)
    c = w.analysis(x, shift)
    torch.testing.assert_close(sum(a.square().sum() for a in c), x.abs().square().sum())
    torch.testing.assert_close(w.synthesis(c, shift), x)
    other = [noise(a.shape, seed=i) for i, a in enumerate(c)]
    left = sum((a * b).sum() for a, b in zip(c, other, strict=True))
    torch.testing.assert_close(left, (x.conj() * w.synthesis(other, shift)).sum().real)


CASES = {
    "real": ((6, 7, 8), torch.float64, "haar", False),
    "positive": ((6, 7, 8), torch.float64, "haar", True),
    "complex": ((5, 9, 10), torch.complex128, "db2", False),
    "one slice": ((1, 9, 8), torch.float64, "db2", True),
}


@pytest.mark.parametrize(("shape", "dtype", "wavelet", "positivity"), CASES.values(), ids=CASES)
def test_prox_is_optimal(shape, dtype, wavelet, positivity):
    """No small step in a random direction lowers ½‖x − b‖² + w ‖W x‖₁."""
    b, weight = noise(shape, dtype), 0.3
    sparsity = WaveletSparsity(Wavelets(shape, wavelet), positivity)
    x = sparsity.prox(b, weight, 400)

    def objective(v):
        return 0.5 * float((v - b).abs().square().sum()) + weight * sparsity.value(v)

    for seed in range(1, 7):
        for size in (1e-1, 1e-2):
            other = x + size * noise(shape, dtype, seed)
            other = other.clamp(min=0) if positivity else other
            assert objective(other) >= objective(x) - 1e-6


def test_one_thresholding_is_exact_where_the_grid_fits():
    b, weight = noise((8, 8, 8)), 0.4
    sparsity = WaveletSparsity(Wavelets((8, 8, 8), "haar"))
    torch.testing.assert_close(sparsity.prox(b, weight, 1, (0, 0, 0)), sparsity.prox(b, weight, 500))


def test_it_agrees_with_deepinv():
    from deepinv.models import WaveletDenoiser

    b = noise((16, 16, 16)).float()
    theirs = WaveletDenoiser(level=2, wv="db2", wvdim=3)(b[None, None], 0.3)[0, 0]
    ours = WaveletSparsity(Wavelets((16, 16, 16), "db2", 2)).prox(b, 0.3, 1)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_a_warm_start_needs_fewer_steps():
    b, weight = noise((9, 9, 9)), 0.4
    made = [WaveletSparsity(Wavelets((9, 9, 9), "db2"), positivity=True) for _ in range(3)]
    exact = made[0].prox(b, weight, 300)
    made[1].prox(b, weight, 50)
    assert (made[1].prox(b, weight, 2) - exact).norm() < 0.1 * (made[2].prox(b, weight, 2) - exact).norm()


def test_smooth_parts_are_free():
    constant = torch.full((8, 8, 8), 2.0)
    torch.testing.assert_close(WaveletSparsity(Wavelets((8, 8, 8), "haar")).prox(constant, 5.0, 3), constant)
