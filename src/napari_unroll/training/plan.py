"""What to train, as one record: the source of dock form, command-line options, YAML and model card.

Knows nothing of files and devices; ``session.train`` carries it out.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, model_validator

from napari_unroll.methods.problem import MethodParams
from napari_unroll.methods.unrolled.network import UnrolledConfig
from napari_unroll.training.options import TrainOptions

LEVELS: dict[str, tuple[float, ...]] = {"ct": (30, 50, 100), "mri": (5, 10)}
"""Views and accelerations that generated scanners have unless others are asked for."""
NETWORKS: dict[str, dict[str, Any]] = {
    "ct": {"n_iterations": 5, "preconditioner": 0.2, "substeps": 2, "start_iterations": 60},
    "mri": {"n_iterations": 5, "preconditioner": 0.2, "degree": 3, "final_step": True, "start_iterations": 60},
}
"""What training chooses where the plan leaves the unrolled network open; post-processing starts from FDK or zero-filled."""
DIMENSIONS = {"ct": 3, "mri": 2}
"""And of its prior: k-space that is fully sampled along z falls apart into slices, which train several times faster."""
NEIGHBOURS = 2
"""Slices on either side that a 2-D prior sees too."""
OPTIONS: dict[str, dict[str, Any]] = {
    "ct": {"batch_size": 1, "learning_rate": 5e-4, "auxiliary": 0.2, "context": "trajectory"},
    "mri": {"patch_size": (8, 96, 96)},
}
"""And where it leaves the options open. CT operators are approximated only, so contexts are trajectories; those of
Cartesian MRI are exact. Thin slabs for MRI, whose undersampling lies in (y, x)."""


Photons = Annotated[float, Field(gt=0, le=1e15)]
Deviation = Annotated[float, Field(gt=0, le=10)]
Level = Annotated[float, Field(ge=1, le=100_000)]


class Noise(MethodParams):
    """The noise of simulated scans; every scan draws its level log-uniformly from the range."""

    kind: Literal["auto", "poisson", "gaussian"] = Field(
        "auto", description="Poisson counts, then −log (CT); or Gaussian (MRI: complex, per coil); auto by modality."
    )
    photons: tuple[Photons, Photons] = Field((3e4, 3e5), description="Poisson: photons per pixel, least and most.")
    sigma: tuple[Deviation, Deviation] = Field(
        (0.005, 0.02),
        description="Gaussian: standard deviation over the largest value (CT: line integral), least and most.",
    )
    coil_correlation: float = Field(
        0.0, ge=0, lt=1, description="MRI: correlation ρ of the noise of neighbouring coils; ρ^|i−j| beyond."
    )
    coil_covariance: str | None = Field(
        None, description="MRI: .npy file with the noise covariance (coil, coil) instead, say from a noise scan."
    )

    @model_validator(mode="after")
    def _ranges(self) -> Noise:
        for name in ("photons", "sigma"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} needs two numbers, least and most, got {low:g} and {high:g}")
        return self


class TrainingPlan(MethodParams):
    """What to train: for which scanner, on which objects, which network, for how long."""

    name: str = Field("trained", pattern=r"^[\w.-]+$", description="Name of the weights.")
    modality: Literal["ct", "mri"] = Field("ct", description="X-ray tomography or magnetic resonance.")
    task: Literal["unrolled", "post-processing"] = Field(
        "unrolled", description="Network between data steps, or one pass over the quick reconstruction."
    )
    levels: tuple[Level, ...] | None = Field(
        None, description="Views (CT, 30, 50, 100) or accelerations (MRI, 5, 10); empty: these, or the scanner's own."
    )
    size: int = Field(64, ge=8, le=1024, description="Voxels along an edge of generated scanners.")
    scanner: str | None = Field(None, description="Scan file whose geometry, or mask and coils, is trained for.")
    volumes: str | None = Field(
        None, description="Folder of volumes to scan (tif, npy, npz, nii, mrc, h5, ome.zarr); empty: generated objects."
    )
    scans: str | None = Field(None, description="Folder of scan files with their truth, used as they are.")
    n_objects: int = Field(48, ge=1, le=9000, description="Objects for training.")
    n_held_out: int = Field(2, ge=1, le=100, description="Objects for validation, never trained on.")
    noise: Noise = Field(Noise(), description="Noise of simulated scans.")
    network: UnrolledConfig = Field(
        UnrolledConfig(**NETWORKS["ct"]),
        description="Architecture; modality and task decide its channels and data step.",
    )
    options: TrainOptions = Field(TrainOptions(**OPTIONS["ct"]), description="How long and how to train.")
    initial: str | None = Field(
        None,
        description="Shipped weights by name, or a .safetensors file, to start from; the architecture is theirs, with more "
        "iterations, priors or slices where the network asks for them.",
    )
    licence: str = Field("", description="Licence of the weights, for the model card.")
    stored: Literal["float32", "float16"] = Field(
        "float32", description="Number type of the weights in their file; float16 halves it."
    )

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, values: Any) -> Any:
        """Fill in what suits modality and task; these decide the network's channels and data step.

        Initial weights bring their own architecture, so nothing is added to it unless it is asked for.
        """
        if not isinstance(values, dict):
            return values
        modality, task = values.get("modality", "ct"), values.get("task", "unrolled")
        network, options = _plain(values.get("network", {})), _plain(values.get("options", {}))
        if modality not in NETWORKS or not isinstance(network, dict) or not isinstance(options, dict):
            return values
        is_new = not values.get("initial")
        least = {"n_iterations": network.get("n_priors", 1)}
        suits = (NETWORKS[modality] if task == "unrolled" else {}) if is_new else least
        prior = _plain(network.get("prior", {}))
        if isinstance(prior, dict):
            prior = {"dim": DIMENSIONS[modality], **prior, "complex_valued": modality == "mri"}
            prior = {"neighbours": NEIGHBOURS, **prior} if is_new and prior["dim"] == 2 else prior
        return {
            **values,
            "network": {**suits, **network, "prior": prior, "data_step": task == "unrolled"},
            "options": {**OPTIONS[modality], **options},
        }

    @model_validator(mode="after")
    def _consistent(self) -> TrainingPlan:
        if self.scans and (self.volumes or self.scanner):
            raise ValueError("scans are used as they are; leave out volumes and scanner")
        if self.modality == "ct" and any(level % 1 for level in self.levels or ()):
            raise ValueError("levels are numbers of views for ct, so they must be whole")
        return self

    @property
    def chosen_levels(self) -> tuple[float, ...]:
        """Views or accelerations of generated scanners."""
        return self.levels or LEVELS[self.modality]


def _plain(value: Any) -> Any:
    """A record as a mapping; anything else as it is, for pydantic to judge."""
    return value.model_dump() if isinstance(value, BaseModel) else value
