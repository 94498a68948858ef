"""Volumes in the computer's memory and patches on the card: who holds what, and what is said of it."""

import pytest

from napari_unroll.cli.team import joined
from napari_unroll.errors import MemoryExceeded, ParameterError
from napari_unroll.methods.weights import select_weights
from napari_unroll.physics.xray_astra import Cards
from napari_unroll.pipeline.devices import Device
from napari_unroll.pipeline.memory import Task, base_bytes, card_bytes, run_bytes, split_bytes
from napari_unroll.pipeline.plan import Choices, resolve
from napari_unroll.pipeline.run import run
from tests.methods import tiny

MIB = 2**20
VOLUME = 4 * 128**3


def card(mib):
    return Device("cuda:0", "GPU", mib * MIB, has_bfloat16=True)


def cpu(mib=8000, disk=0):
    return Device("cpu", "CPU", mib * MIB, disk_bytes=disk * MIB)


def cone(n=128):
    return tiny.cone().with_grid(tiny.cone().grid.resample((n, n, n)))


def plan(devices, scan=None, **choices):
    return resolve(Choices(**{"method": "unrolled-pgd"} | choices), scan or cone(), devices)


def test_all_of_it_is_on_a_card_that_holds_it():
    made = plan((card(24000), cpu()))
    assert (made.device, made.card, made.card_bytes) == ("cuda:0", "", 0)
    assert made.place == "cuda:0"


def test_patches_alone_go_through_a_card_that_is_smaller():
    made = plan((card(200), cpu()))
    assert (made.device, made.card) == ("cpu", "cuda:0")
    assert made.card_bytes <= 0.7 * 200 * MIB
    assert 20 * VOLUME < made.memory_bytes <= 0.7 * made.free_bytes
    assert made.free_bytes == 8000 * MIB
    assert made.precision == "bfloat16"
    said = made.cautions[0]
    assert "do not fit cuda:0" in said
    assert "patches go through the card" in said
    assert made.facts["device"] == "cuda:0 for patches, cpu for volumes, bfloat16"
    assert "on cuda:0" in made.facts["memory"]
    assert "free on cpu and" in made.notes[0]


def test_rays_go_through_all_cards_of_a_kind_unless_one_was_asked_for():
    """Each gives what the network leaves of the smallest of them; neither k-space nor volumes on a card have any."""
    one, other = card(200), Device("cuda:1", "GPU", 160 * MIB, has_bfloat16=True)
    another = Device("cuda:2", "another GPU", 100 * MIB, has_bfloat16=True)
    made = plan((one, other, another, cpu()))
    assert made.rays.numbers == (0, 1)
    assert made.rays.n_bytes == round(0.7 * (160 * MIB - made.card_bytes))
    assert plan((one, other, cpu()), device="cuda:1").rays.numbers == (1,)
    limited = plan((one, other, cpu(disk=8000)), device="cuda:0", max_memory_gb=0.15)
    assert limited.rays == Cards((0,), round(0.7 * (150_000_000 - limited.card_bytes)))
    assert plan((card(24000), cpu())).rays is None
    assert plan((card(30), cpu()), tiny.multicoil((16, 64, 64))).rays is None


def test_a_run_asks_for_the_plans_cards(monkeypatch):
    asked = []
    monkeypatch.setattr("napari_unroll.pipeline.run.build_physics", lambda *args, **more: asked.append((args[1], more)))
    made = plan((card(200), cpu()))
    list(run(made, cone()))
    assert asked == [("cpu", {"cards": made.rays})]


def test_the_network_is_the_cards_and_the_volumes_are_the_computers():
    """Together they are what one device would hold, and patches on their way on both sides."""
    method, scan, patch = tiny.get("drunet"), cone(64), (32, 32, 32)
    task = Task(method, method.params(), scan, scan.grid, card=card(200))
    in_flight = 4 * 4 * 32**3
    weights = 2 * select_weights("drunet", scan, "auto").path.stat().st_size
    network = card_bytes(task, patch) - in_flight - weights
    one = task._replace(card=None)
    assert run_bytes(task, patch) == run_bytes(one, patch) - 2 * network + in_flight  # two patches at once on a CPU
    assert sum(split_bytes(task, patch)) - sum(split_bytes(one, patch)) == in_flight - 2 * network
    assert network > 0
    assert run_bytes(task, patch) > base_bytes(scan, scan.grid)


def test_volumes_may_go_on_to_the_disk():
    made = plan((card(200), cpu(300, disk=8000)))
    assert (made.device, made.card) == ("cpu", "cuda:0")
    assert made.disk_bytes > 8 * VOLUME
    assert made.memory_bytes <= 300 * MIB
    assert "go to disk" in made.cautions[1]


def test_a_patch_that_was_asked_for_leaves_the_card_as_well():
    assert plan((card(24000), cpu()), patch_size=32).card == ""
    made = plan((card(200), cpu()), patch_size=32)
    assert (made.card, made.patch_size) == ("cuda:0", (32, 32, 32))


def test_nothing_but_patches_of_networks_goes_through_a_card():
    with pytest.raises(MemoryExceeded, match="cuda:0"):
        plan((card(5), cpu()), method="tv-fista")


@pytest.mark.parametrize(("devices", "lacking"), [((card(2), cpu()), "cuda:0"), ((card(200), cpu(20)), "cpu")])
def test_where_neither_has_room_it_is_said_who_lacks_it(devices, lacking):
    with pytest.raises(MemoryExceeded, match=f"but {lacking} has"):
        plan(devices)


def test_k_space_too():
    scan = tiny.multicoil((16, 64, 64))
    made = plan((card(30), cpu()), scan)
    assert (made.device, made.card) == ("cpu", "cuda:0")
    assert made.patch_size != scan.grid.shape or made.card_bytes <= 0.7 * 30 * MIB
    assert made.params.adaptation_steps == 0
    assert made.cautions[-1] == "There is no room to adapt it to the scan's own samples."
    assert plan((card(24000), cpu()), scan).params.adaptation_steps > 0
    with pytest.raises(MemoryExceeded):
        plan((card(30), cpu()), scan, params={"adaptation_steps": 3})


def test_processes_of_torchrun_do_not_share_a_card(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    made = plan((card(200), cpu()))
    with pytest.raises(ParameterError, match="choose --device cpu"), joined(made.card or made.device):
        pass
