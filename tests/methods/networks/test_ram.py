"""The foundation model: its weights are found on this machine or told where to get, never downloaded, never unpickled."""

import pickle

import pytest
import torch
from deepinv.models import RAM
from safetensors.torch import save_file

from napari_unroll.errors import WeightsError
from napari_unroll.methods.networks import ram
from napari_unroll.methods.registry import get, has_weights
from tests.methods import tiny


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return RAM(pretrained=False).eval()


@pytest.fixture(scope="module")
def file(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("ram") / ram.FILE
    torch.save(model.state_dict(), path)
    yield path
    path.unlink()


@pytest.fixture
def empty_hub(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return tmp_path / "hub" / "checkpoints"


def test_missing_weights_are_told_with_source_and_place(empty_hub):
    with pytest.raises(WeightsError) as error:
        ram.find("auto")
    assert ram.URL in str(error.value)
    assert str(empty_hub / ram.FILE) in str(error.value)
    with pytest.raises(WeightsError, match=r"no file mine\.pth\.tar"):
        ram.find("mine.pth.tar")
    assert not has_weights(get("dpir-ram"), tiny.cone())


def test_weights_in_the_hub_are_found(empty_hub, file):
    empty_hub.mkdir(parents=True)
    (empty_hub / ram.FILE).symlink_to(file)
    assert ram.find("auto").path == empty_hub / ram.FILE
    assert has_weights(get("dpir-ram"), tiny.multicoil())


@pytest.mark.filterwarnings("ignore:Detected pickle protocol:UserWarning")
def test_code_and_other_networks_are_refused(tmp_path):
    class Harmful:
        def __reduce__(self):
            return (pytest.fail, ("a file was executed",))

    contents = {"code.pth.tar": pickle.dumps(Harmful()), "bytes.pt": b"\xff" * 50, "bad.safetensors": b"\xff" * 50}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    save_file({"w": torch.zeros(3)}, tmp_path / "other.safetensors")
    for name in (*contents, "other.safetensors"):
        with pytest.raises(WeightsError, match="does not hold the weights of RAM"):
            ram.load(ram.find(str(tmp_path / name)))
    (tmp_path / "notes.txt").write_text("weights")
    with pytest.raises(WeightsError, match=r"notes\.txt is no file of RAM's weights"):
        ram.find(str(tmp_path / "notes.txt"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_volumes_are_cleaned_slice_by_slice(file, model, dtype):
    denoiser = ram.load(ram.find(str(file)))
    x = torch.randn(1, 1, 2, 11, 8, dtype=dtype)
    with torch.no_grad():
        cleaned = denoiser(x, 0.05)
        channels = torch.cat((x.real, x.imag), 1) if x.is_complex() else x
        first = model(channels[:, :, 1], sigma=0.05)
    assert cleaned.shape == x.shape
    assert cleaned.dtype == dtype
    parts = torch.cat((cleaned.real, cleaned.imag), 1) if x.is_complex() else cleaned
    torch.testing.assert_close(parts[:, :, 1], first, rtol=1e-3, atol=1e-4)


def test_a_slice_is_reconstructed(file):
    _, x = tiny.drain(get("dpir-ram"), tiny.problem(tiny.slice_mri()), weights=str(file), n_iterations=1)
    assert x.shape == (1, 32, 32)
    assert torch.isfinite(x).all()


def test_safetensors_serve_too(model, tmp_path):
    save_file(model.state_dict(), tmp_path / "ram.safetensors")
    denoiser = ram.load(ram.find(str(tmp_path / "ram.safetensors")))
    (tmp_path / "ram.safetensors").unlink()
    assert all(torch.equal(a, b) for a, b in zip(denoiser.model.parameters(), model.parameters(), strict=True))
