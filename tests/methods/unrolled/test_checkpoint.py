"""Checkpoints: round trip, and everything that is no checkpoint is refused in words."""

import pickle

import pytest
import torch
from safetensors.torch import save_file

from napari_unroll.errors import WeightsError
from napari_unroll.methods.networks.prior import PriorConfig
from napari_unroll.methods.unrolled import checkpoint
from napari_unroll.methods.unrolled.network import UnrolledConfig, UnrolledPGD

CONFIG = UnrolledConfig(prior=PriorConfig(channels=(4, 4, 8, 8)), n_iterations=2)


def test_round_trip_keeps_weights_and_architecture(tmp_path):
    network, path = UnrolledPGD(CONFIG), tmp_path / "net.safetensors"
    checkpoint.save_network(network, path, {"modality": "ct"})
    found = checkpoint.find(str(path))
    back = checkpoint.load_network(found.path)
    assert back.config == CONFIG
    assert found.card["modality"] == "ct"
    assert all(
        torch.equal(a, b) for a, b in zip(network.state_dict().values(), back.state_dict().values(), strict=True)
    )


def test_half_the_size_is_read_as_full_precision(tmp_path):
    network, whole, half = UnrolledPGD(CONFIG), tmp_path / "whole.safetensors", tmp_path / "half.safetensors"
    checkpoint.save_network(network, whole)
    checkpoint.save_network(network, half, dtype=torch.float16)
    assert half.stat().st_size < 0.7 * whole.stat().st_size
    for name, value in checkpoint.load_network(half).state_dict().items():
        torch.testing.assert_close(value, network.state_dict()[name], rtol=5e-4, atol=1e-7)


def test_pickles_and_rubbish_are_refused(tmp_path):
    for name, content in {"a": pickle.dumps({"x": 1}), "b": b"", "c": b"\xff" * 100}.items():
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(content)
        with pytest.raises(WeightsError, match="not a checkpoint"):
            checkpoint.load_network(path)


def test_weights_of_another_network_are_refused(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"w": torch.zeros(3)}, path)
    with pytest.raises(WeightsError):
        checkpoint.load_network(path)
    save_file({"w": torch.zeros(3)}, path, metadata={"config": CONFIG.model_dump_json()})
    with pytest.raises(WeightsError):
        checkpoint.load_network(path)


def test_unknown_names_say_what_there_is():
    with pytest.raises(WeightsError, match="No weights called 'nothing'"):
        checkpoint.find("nothing")


def test_shipped_weights_load_and_have_cards():
    for weights in checkpoint.shipped().values():
        network = checkpoint.load_network(weights.path)
        assert {"modality", "task", "trained_on", "licence", "seconds"} <= set(weights.card)
        assert network.config.prior.complex_valued == (weights.card["modality"] == "mri")
