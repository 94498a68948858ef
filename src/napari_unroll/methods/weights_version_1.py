"""Checkpoints of version 1, which knew one network: their architecture and tensors under today's names."""

from __future__ import annotations

import json
from typing import Any

import torch

from napari_unroll.methods.algorithms.network import NetworkConfig

STEP = ("preconditioner", "degree", "substeps")


def config(text: str) -> dict[str, Any]:
    """Today's NetworkConfig as plain values. Raises ValueError where the text is no such record."""
    old = json.loads(text)
    prior = {"kind": "drunet", **old.pop("prior", {})}
    step = {"kind": "gradient", **{name: old.pop(name) for name in STEP if name in old}}
    if old.pop("data_step", True):
        return {**old, "iteration": "proximal-gradient", "prior": prior, "data_step": step}
    return {**old, "iteration": "one-pass", "prior": prior, "n_iterations": 1}


def method(text: str) -> str:
    """The method that the network was trained for."""
    return "unrolled-pgd" if json.loads(text).get("data_step", True) else "drunet"


def tensors(old: dict[str, torch.Tensor], wanted: NetworkConfig) -> dict[str, torch.Tensor]:
    """The tensors under today's names."""
    new = {name.replace(".unet.", ".backbone."): tensor for name, tensor in old.items()}
    stepsize, final = new.pop("stepsize"), new.pop("final_stepsize", None)
    if wanted.data_step is not None:
        new["data_step.stepsize"] = stepsize
    if final is not None:
        new["final_step.stepsize"] = final.reshape(1)
    return new
