"""How long and how to train: one record."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from napari_unroll.methods.problem import MethodParams
from napari_unroll.record import LARGEST_SEED

Edge = Annotated[int, Field(ge=1, le=4096)]
NoiseLevel = Annotated[float, Field(gt=0, le=10)]


class TrainOptions(MethodParams):
    """How long and how to train; whatever of steps and seconds ends first."""

    n_steps: int = Field(100_000, ge=1, le=100_000_000, description="Optimiser steps.")
    max_seconds: float | None = Field(
        3600.0, gt=0, le=1e8, description="Wall-clock budget in seconds; the schedule follows it. Empty: no limit."
    )
    patience: int | None = Field(
        None, ge=1, le=1_000_000, description="Validations without a better PSNR before training ends."
    )
    batch_size: int = Field(2, ge=1, le=4096, description="Patches per pass.")
    accumulate: int = Field(1, ge=1, le=4096, description="Passes per optimiser step.")
    patch_size: tuple[Edge, Edge, Edge] = Field((48, 48, 48), description="Patch (z, y, x) in voxels.")
    partition: Literal["approximated", "exact", "global"] = Field(
        "approximated",
        description="approximated: patches with the approximated operator, no projector in the loop. exact: patches with the "
        "operator restricted to them. global: whole volumes with the exact operator.",
    )
    noise_levels: tuple[NoiseLevel, NoiseLevel] = Field(
        (0.005, 0.2),
        description="Denoisers: least and largest noise σ, relative to the volume's scale; drawn log-uniformly per patch.",
    )
    augment: bool = Field(True, description="Flips and turns that commute with the operator; random phase (MRI).")
    learning_rate: float = Field(
        1e-3, gt=0, le=100, description="Peak rate of Adam; linear warm-up, then cosine to 1 %."
    )
    warmup: int = Field(100, ge=0, le=1_000_000, description="Steps of linear warm-up.")
    ema: float = Field(0.995, ge=0, lt=1, description="Decay of the exponential moving average of the weights.")
    context: Literal["truth", "start", "trajectory"] = Field(
        "truth",
        description="What surrounds a patch: the truth (paper; right where the approximation is exact), the start (as cheap, "
        "holds nothing but the scan), or the network's own iterates with the exact operator.",
    )
    truth_share: float = Field(
        0.5,
        ge=0,
        le=1,
        description="With trajectory: part of the budget in the truth's context first, for new networks.",
    )
    context_uses: int = Field(
        8, ge=1, le=1_000_000, description="Patches that are cut from a trajectory before another is made."
    )
    auxiliary: float = Field(0.1, ge=0, le=1000, description="Weight of the loss on intermediate iterates.")
    clip: float = Field(1.0, gt=0, le=1e6, description="Largest norm of the gradient.")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="Arithmetic of the network; auto: bfloat16 where the device computes it. float16 needs CUDA.",
    )
    recompute: bool = Field(False, description="Keep the activations of one iteration only; slower, needs less memory.")
    compile: bool = Field(False, description="Compile the network with torch.compile; the first steps are slow.")
    log_every: int = Field(10, ge=1, le=1_000_000, description="Steps between reports of the loss.")
    validate_every: int = Field(
        500, ge=1, le=1_000_000, description="Steps between checkpoints, and between validations at least."
    )
    validation_share: float = Field(0.2, gt=0, le=1, description="Validations wait until they take less of the time.")
    seed: int = Field(0, ge=0, le=LARGEST_SEED, description="Seed of weights, patches and contexts.")

    @model_validator(mode="after")
    def _levels(self) -> TrainOptions:
        low, high = self.noise_levels
        if low > high:
            raise ValueError(f"noise_levels needs two numbers, least and most, got {low:g} and {high:g}")
        return self
