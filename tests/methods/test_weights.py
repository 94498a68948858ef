"""Checkpoints: round trip, and everything that is no checkpoint is refused in words."""

import pickle

import pytest
import torch
from safetensors.torch import save_file

from napari_unroll.errors import WeightsError
from napari_unroll.methods import weights
from napari_unroll.methods.algorithms.network import Network, NetworkConfig
from napari_unroll.methods.networks.drunet import DRUNetConfig
from tests.methods import tiny

CONFIG = NetworkConfig(prior=DRUNetConfig(channels=(4, 4, 8, 8)), n_iterations=2)


def test_round_trip_keeps_weights_and_architecture(tmp_path):
    network, path = Network(CONFIG), tmp_path / "net.safetensors"
    weights.save_network(network, path, "unrolled-pgd", {"modality": "ct"})
    found = weights.find(str(path))
    back = weights.load_network(found.path)
    assert back.config == CONFIG
    assert found.card["modality"] == "ct"
    assert all(
        torch.equal(a, b) for a, b in zip(network.state_dict().values(), back.state_dict().values(), strict=True)
    )


def test_half_the_size_is_read_as_full_precision(tmp_path):
    network, whole, half = Network(CONFIG), tmp_path / "whole.safetensors", tmp_path / "half.safetensors"
    weights.save_network(network, whole, "unrolled-pgd")
    weights.save_network(network, half, "unrolled-pgd", dtype=torch.float16)
    assert half.stat().st_size < 0.7 * whole.stat().st_size
    for name, value in weights.load_network(half).state_dict().items():
        torch.testing.assert_close(value, network.state_dict()[name], rtol=5e-4, atol=1e-7)


def test_pickles_and_rubbish_are_refused(tmp_path):
    for name, content in {"a": pickle.dumps({"x": 1}), "b": b"", "c": b"\xff" * 100}.items():
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(content)
        with pytest.raises(WeightsError, match="not a checkpoint"):
            weights.load_network(path)


def test_weights_of_another_network_are_refused(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"w": torch.zeros(3)}, path)
    with pytest.raises(WeightsError):
        weights.load_network(path)
    about = {"kind": "network", "version": "2", "method": "unrolled-pgd", "config": CONFIG.model_dump_json()}
    save_file({"w": torch.zeros(3)}, path, metadata=about)
    with pytest.raises(WeightsError):
        weights.load_network(path)


def test_a_small_file_cannot_ask_for_a_large_network(tmp_path):
    path = tmp_path / "small.safetensors"
    large = NetworkConfig(prior=DRUNetConfig(channels=(512, 512, 1024, 1024)), n_iterations=8)
    about = {"kind": "network", "version": "2", "method": "unrolled-pgd", "config": large.model_dump_json()}
    save_file({"w": torch.zeros(3)}, path, metadata=about)
    with pytest.raises(WeightsError, match="bytes can hold"):
        weights.load_network(path)


def test_what_the_card_does_not_describe_is_refused(tmp_path):
    path = tmp_path / "net.safetensors"
    weights.save_network(Network(CONFIG), path, "unrolled-pgd", {"modality": "ct"})
    weights.load(weights.find(str(path)), ("unrolled-pgd",), False, "cpu")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="damaged"):
        weights.load(weights.find(str(path)), ("unrolled-pgd",), False, "cpu")


def test_unknown_names_say_what_there_is():
    with pytest.raises(WeightsError, match="No weights called 'nothing'"):
        weights.find("nothing")


def test_shipped_weights_load_and_have_cards():
    for found in weights.shipped().values():
        network = weights.load_network(found.path)
        assert {"modality", "trained_on", "licence", "seconds"} <= set(found.card)
        assert network.config.prior.complex_valued == (found.card["modality"] == "mri")
        assert found.modality == found.card["modality"]
        assert found.config == network.config


def test_shipped_weights_are_found_by_method_and_modality():
    assert {w.name for w in weights.shipped_for("unrolled-pgd")} == {"cone-beam", "multi-coil"}
    assert weights.select_weights("drunet", tiny.multicoil(), "auto").name == "multi-coil-post-processing"
    with pytest.raises(WeightsError, match="No lu-dncnn weights for CT are shipped; train some"):
        weights.select_weights("lu-dncnn", tiny.cone(), "auto")


def test_weights_for_another_method_or_modality_are_refused():
    shipped = weights.shipped()["cone-beam"]
    with pytest.raises(WeightsError, match=r"real \(CT, images\) volumes, this scan is complex"):
        weights.load(shipped, ("unrolled-pgd",), True, "cpu")
    with pytest.raises(WeightsError, match="was trained for unrolled-pgd, not for drunet"):
        weights.load(shipped, ("drunet",), False, "cpu")


def test_a_file_of_an_unknown_version_is_refused(tmp_path):
    about = {"kind": "network", "version": "3", "config": CONFIG.model_dump_json()}
    save_file({"w": torch.zeros(3)}, tmp_path / "new.safetensors", metadata=about)
    with pytest.raises(WeightsError, match="this version knows"):
        weights.load_network(tmp_path / "new.safetensors")


def test_flipped_bits_and_weights_that_are_no_numbers_are_refused(tmp_path):
    network, path = Network(CONFIG), tmp_path / "net.safetensors"
    weights.save_network(network, path, "unrolled-pgd")
    content = bytearray(path.read_bytes())
    content[-7] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="damaged"):
        weights.load_network(path)
    with torch.no_grad():
        next(network.parameters())[0] = torch.nan
    weights.save_network(network, path, "unrolled-pgd")
    with pytest.raises(WeightsError, match="NaN"):
        weights.load_network(path)


@pytest.mark.parametrize("text", ["null", "[]", "3", "{", "[" * 100_000])
def test_cards_that_are_no_cards_say_nothing(tmp_path, text):
    path = tmp_path / "net.safetensors"
    weights.save_network(Network(CONFIG), path, "unrolled-pgd")
    path.with_suffix(".json").write_text(text)
    assert weights.find(str(path)).card == {}


def test_names_beyond_the_file_system_are_no_weights():
    with pytest.raises(WeightsError):
        weights.find("n" * 300 + ".safetensors")


def test_auto_takes_the_weights_in_whose_domain_the_scan_lies(monkeypatch):
    path = weights.shipped()["multi-coil"].path
    cards = {"slabs": [8, 1000], "slices": [1, 1]}
    given = {n: weights.Weights(n, path, {"modality": "mri", "domain": {"planes": p}}) for n, p in cards.items()}
    monkeypatch.setattr(weights, "shipped", lambda: given)
    assert weights.select_weights("unrolled-pgd", tiny.slice_mri(), "auto").name == "slices"
    assert weights.select_weights("unrolled-pgd", tiny.multicoil(), "auto").name == "slabs"
    assert weights.select_weights("unrolled-pgd", tiny.multicoil(), "slices").name == "slices"
    for card in cards:
        given[card].card["domain"]["planes"] = [100, 200]
    assert weights.select_weights("unrolled-pgd", tiny.slice_mri(), "auto").name == "slabs"
