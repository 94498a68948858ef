"""Batches shared in a group: each process applies its own, and a failure of one is raised in all."""

import pytest

from napari_unroll.methods import team


class Group:
    """Two processes of which this is the first; the other one tells ``other``."""

    def __init__(self, other):
        self.other = other

    def get_rank(self):
        return 0

    def get_world_size(self):
        return 2

    def is_available(self):
        return True

    is_initialized = is_available

    def all_gather_object(self, told, mine):
        told[:] = [mine, self.other]


def test_a_process_applies_its_own_batches(monkeypatch):
    monkeypatch.setattr(team, "distributed", Group(["theirs"]))
    asked = []
    found = list(team.in_turn([["a"], ["b"], ["c"]], lambda boxes: asked.append(boxes) or ["ours"]))
    assert asked == [["a"], ["c"]]
    assert found == [(["a"], ["ours"]), (["b"], ["theirs"]), (["c"], ["ours"])]


def test_the_failure_of_another_process_is_raised_here_too(monkeypatch):
    monkeypatch.setattr(team, "distributed", Group(MemoryError("there")))
    with pytest.raises(MemoryError, match="there"):
        list(team.in_turn([["a"], ["b"]], lambda boxes: ["ours"]))
