"""What to train, as one record: the source of dock form, command-line options, YAML and model card.

Knows nothing of files and devices; ``session.train`` carries it out.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, model_validator

from napari_unroll.methods.algorithms.network import NetworkConfig
from napari_unroll.methods.problem import Learning, MethodParams
from napari_unroll.methods.registry import trainable
from napari_unroll.record import FileName, FolderName
from napari_unroll.scan.scan import Modality
from napari_unroll.training.options import TrainOptions

LEVELS: dict[str, tuple[float, ...]] = {"ct": (30, 50, 100), "mri": (5, 10), "image": (1, 3)}
"""Views, accelerations and downsampling factors (1: deblurring) that generated scanners have unless others are asked for."""
OPTIONS: dict[str, dict[str, Any]] = {
    "ct": {},
    "mri": {"patch_size": (8, 96, 96)},
    "image": {"patch_size": (1, 64, 64), "batch_size": 8},
}
"""Training options of every method: thin slabs for MRI, whose undersampling lies in (y, x), and slices for images."""
OPTIONS_OF_SLICES: dict[str, Any] = {"patch_size": (1, 256, 256), "batch_size": 1, "accumulate": 4}
"""Whole planes, every one of another scanner."""
DEFAULT_METHOD = "unrolled-pgd"


Photons = Annotated[float, Field(gt=0, le=1e15)]
Deviation = Annotated[float, Field(gt=0, le=10)]
Level = Annotated[float, Field(ge=1, le=100_000)]


class Noise(MethodParams):
    """The noise of simulated scans; every scan draws its level log-uniformly from the range."""

    kind: Literal["auto", "poisson", "gaussian"] = Field(
        "auto",
        description="Poisson counts, then −log (CT); or Gaussian (images; MRI: complex, per coil); auto by modality.",
    )
    photons: tuple[Photons, Photons] = Field((3e4, 3e5), description="Poisson: photons per pixel, least and most.")
    sigma: tuple[Deviation, Deviation] = Field(
        (0.005, 0.02),
        description="Gaussian: standard deviation over the largest value (CT: line integral), least and most.",
    )
    coil_correlation: float = Field(
        0.0, ge=0, lt=1, description="MRI: correlation ρ of the noise of neighbouring coils; ρ^|i−j| beyond."
    )
    coil_covariance: FileName | None = Field(
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
    modality: Modality = Field("ct", description="X-ray tomography, magnetic resonance, or blurred images.")
    method: str = Field(DEFAULT_METHOD, description="Method whose network is trained.")
    levels: tuple[Level, ...] | None = Field(
        None,
        description="Views (CT, 30, 50, 100), accelerations (MRI, 5, 10) or downsampling factors (images, 1, 3; 1 is a blur); "
        "empty: these, or the scanner's own.",
    )
    size: int = Field(64, ge=8, le=1024, description="Voxels along an edge of generated scanners.")
    scanner: FileName | None = Field(None, description="Scan file whose geometry, or mask and coils, is trained for.")
    volumes: FolderName | None = Field(
        None, description="Folder of volumes to scan (tif, npy, npz, nii, mrc, h5, ome.zarr); empty: generated objects."
    )
    scans: FolderName | None = Field(None, description="Folder of scan files with their truth, used as they are.")
    n_objects: int = Field(48, ge=1, le=9000, description="Objects for training.")
    n_held_out: int = Field(2, ge=1, le=100, description="Objects for validation, never trained on.")
    noise: Noise = Field(Noise(), description="Noise of simulated scans.")
    variety: bool = Field(
        False,
        description="Every object has a scanner of its own, with a level between the least and the largest. CT: cone, fan and "
        "parallel beams, short arcs, objects cut by the field of view, of more kinds. MRI: 1 to 32 coils, given or estimated "
        "maps, masks of points, lines or spokes, slices or slabs, any contrast.",
    )
    slices: bool = Field(
        False,
        description="With variety, MRI: every scan is one plane with an image of its own: heads, leaves, grains, fibres and other "
        "textures, and sections of the volumes where there are some.",
    )
    network: NetworkConfig = Field(description="Architecture; method and modality decide its iteration and channels.")
    options: TrainOptions = Field(description="How long and how to train.")
    initial: FileName | None = Field(
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
        """Fill in what suits method and modality."""
        if not isinstance(values, dict):
            return values
        modality, learning = values.get("modality", "ct"), _learning(values.get("method", DEFAULT_METHOD))
        network, options = _plain(values.get("network", {})), _plain(values.get("options", {}))
        if modality not in OPTIONS or not isinstance(network, dict) or not isinstance(options, dict):
            return values
        usual = OPTIONS[modality]
        if values.get("slices"):
            network = {**network, "prior": {"neighbours": 0, **_plain(network.get("prior", {}))}}
            usual = {**usual, **OPTIONS_OF_SLICES}
        return {
            **values,
            "network": _architecture(learning, modality, network, bool(values.get("initial"))),
            "options": {**usual, **learning.options(modality), **options},
        }

    @model_validator(mode="after")
    def _consistent(self) -> TrainingPlan:
        if self.scans and (self.volumes or self.scanner):
            raise ValueError("scans are used as they are; leave out volumes and scanner")
        if self.variety and (self.modality == "image" or self.scans or self.scanner):
            raise ValueError("variety is of generated scanners (ct, mri); leave out scans and scanner, or variety")
        if self.variety and self.task == "denoise":
            raise ValueError("variety is of scanners, and nothing is scanned for a denoiser; leave it out")
        if self.slices and not (self.variety and self.modality == "mri"):
            raise ValueError("slices are drawn for MRI with variety (variety=true); leave them out")
        if self.modality != "mri" and any(level % 1 for level in self.levels or ()):
            raise ValueError(
                "levels are numbers of views for ct and downsampling factors for image, so they must be whole"
            )
        return self

    @property
    def chosen_levels(self) -> tuple[float, ...]:
        """Views, accelerations or downsampling factors of generated scanners."""
        return self.levels or LEVELS[self.modality]

    @property
    def task(self) -> str:
        """What the network is trained to do."""
        return _learning(self.method).task


def _learning(method: str) -> Learning:
    """How the method's network comes to be. Raises ValueError where it has none."""
    known = {m.name: m.learning for m in trainable()}
    found = known.get(method)
    if found is None:
        raise ValueError(f"method must be one whose network is trained, {', '.join(known)}; got {method!r}")
    return found


def _architecture(learning: Learning, modality: Modality, asked: dict[str, Any], has_initial: bool) -> dict[str, Any]:
    """The method's own architecture with what was asked for in its place.

    Initial weights bring their own architecture, so of the method's only what they cannot have is kept: nothing is added to
    them unless it is asked for.
    """
    own = learning.network(modality).model_dump()
    if has_initial:
        own |= {"n_iterations": asked.get("n_priors", 1), "n_priors": 1, "final_step": False, "follows_noise": False}
        own["prior"] = own["prior"] | {"neighbours": 0}
    merged = {**own, **asked, "iteration": own["iteration"]}
    for part in ("prior", "data_step", "equilibrium", "lipschitz"):
        merged[part] = _merged(own[part], _plain(asked.get(part)))
    if isinstance(merged["prior"], dict):
        merged["prior"] = {**merged["prior"], "complex_valued": modality == "mri"}
    return merged


def _merged(own: Any, asked: Any) -> Any:
    """A part of another kind has nothing in common with the method's own."""
    if not isinstance(asked, dict) or not isinstance(own, dict):
        return own if asked is None else asked
    same = asked.get("kind", own.get("kind")) == own.get("kind")
    shared = own if same else {name: own[name] for name in ("dim", "neighbours") if name in own}
    asked = {"neighbours": 0, **asked} if asked.get("dim") == 3 else asked
    return {**shared, **asked}


def _plain(value: Any) -> Any:
    """A record as a mapping; anything else as it is, for pydantic to judge."""
    return value.model_dump() if isinstance(value, BaseModel) else value
