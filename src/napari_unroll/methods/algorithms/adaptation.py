"""Training a network on, before it is used, by the measurements of the one scan that it is used for.

    min_θ Σ_j ‖r_j‖₂ / ‖y_Λj‖₂ + ‖r_j‖₁ / ‖y_Λj‖₁ + ‖c_j‖₂ / ‖y_C‖₂,    r_j = A_Λj x_θ(y_Θj) − y_Λj,  c_j = A_C x_θ(y_Θj) − y_C

Every draw j cuts the measurements in two: what the network is given, Θ_j, and what its volume must foretell, Λ_j. The
middle C of k-space, which holds the brightness and hardly any noise, is always given and must be kept: coil maps that are
wrong would otherwise be made up for by a darker image. Some samples are in no draw; the weights that foretell these best
are used. Zero-shot self-supervised learning: Yaman, Hosseini, Akçakaya, arXiv 2102.07737; the first two terms: Yaman et
al. 2020, doi:10.1002/mrm.28378. No truth and no other scan is needed. Networks see the volume in one piece.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from copy import deepcopy
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from weakref import WeakKeyDictionary

import torch
from pydantic import Field

from napari_unroll.errors import ParameterError, ScanError
from napari_unroll.events import Event, IterationDone, Measured, Progress, Warned, result_of
from napari_unroll.methods.algorithms.descent import cosine, follow, look_in_every_layer
from napari_unroll.methods.algorithms.network import Network, NetworkConfig, noise_told
from napari_unroll.methods.domain import outside
from napari_unroll.methods.left_out import LeftOut, split
from napari_unroll.methods.memory import Sizes, held_bytes
from napari_unroll.methods.problem import Problem, as_values
from napari_unroll.methods.steps.data import Data
from napari_unroll.methods.steps.final import FORETOLD
from napari_unroll.methods.steps.scale import intensity_scale
from napari_unroll.methods.steps.start import first_estimate
from napari_unroll.normal.factors import NormalFactors
from napari_unroll.normal.fit import FitOptions, fit_now
from napari_unroll.scan.geometry import CartesianSampling
from napari_unroll.scan.scan import Scan

AdaptationSteps = Annotated[int, Field(ge=0, le=10_000)] | Literal["auto"]
"""Training steps, or how many are found."""
DESCRIPTION = (
    "MRI: training steps of the network on this scan's own samples before the run; the volume must be in one piece. auto: 40 for "
    "single slices and small volumes that are unlike what the network was trained for, else 0."
)
AUTO_STEPS, AUTO_VOXELS = 40, 2**17
"""For ``auto``: steps, and voxels of a scan for which they take a few minutes on two processor cores."""
DRAWS = (0.2, 0.25, 0.3, 0.35, 0.4)
"""Part of the measurements that the network's volume must foretell, one per draw."""
MIDDLE = 8
"""Radius of C in samples."""
LEARNING_RATE, WARMUP, LAST_RATE = 3e-4, 5, 0.05
"""Of Adam: after a few steps, and which part of it is left at the end of a cosine."""
CLIP = 1.0
"""Norm of a gradient at most."""
LOOK_EVERY, PATIENCE = 10, 3
"""Steps between two looks at the samples in no draw, and how many looks in a row may find nothing better."""
MEMORY = 0.9
"""Decay of the averaged weights per step, which are what is looked at and used."""
HELD_VOLUMES, WITH_GRADIENT, COPIES = 10, 3, 8
"""Of memory: volumes per draw and iterate, activations of an iteration with gradient over those without, and sets of weights."""
PARAM, KEY = "adaptation_steps", "adapted"
PREPARING, ADAPTING = "drawing what the network is adapted by", "adapting the network to this scan"


@dataclass(frozen=True)
class _Whole:
    """The data term of a whole volume, exact and differentiable; measurements divided by the network's intensity ``scale``."""

    problem: Problem
    factors: NormalFactors
    scale: float

    def at(self, x: torch.Tensor, k: int) -> Data:
        """Around x, in every iteration."""
        normal = self.problem.physics.normal
        left = self.problem.adjoint / self.scale - normal(x)
        return Data.whole(self.factors, x, left, normal)


@dataclass(frozen=True)
class _Found:
    """Weights that were searched for, of which shipped ones and how, and what is told of the search."""

    key: tuple[str, int, str]
    weights: dict[str, torch.Tensor]
    told: Measured


_found: WeakKeyDictionary[Scan, _Found] = WeakKeyDictionary()
"""The last one of every scan of this process: a run with other choices need not search again."""


class _Draw:
    """Measurements in two parts, and the start of the network from one of them."""

    def __init__(self, problem: Problem, left: LeftOut, start: torch.Tensor, network: Network) -> None:
        self.problem, self.left, self._scale = problem, left, intensity_scale(start)
        self._middle = _middle(problem)
        self._start, self._precision = start / self._scale, problem.precision
        self._source = None
        if network.config.has_data_steps:
            self._source = _Whole(problem, fit_now(problem.physics, FitOptions(n_test=0)), self._scale)
        self._noise = noise_told(network.config, problem.scan, self._scale)

    def volume(self, network: Network) -> torch.Tensor:
        """What the network makes of the part that it is given, (1, 1, z, y, x) in the scan's units."""
        low = torch.bfloat16 if self._precision == "bfloat16" else None  # float16 would need its loss scaled
        with torch.autocast(self._start.device.type, low, enabled=low is not None):
            trace = network(self._start, self._source, torch.is_grad_enabled(), self._noise)
        return trace.iterates[-1] * self._scale

    def loss(self, network: Network) -> torch.Tensor:
        """How wrong the other part is foretold, and the middle of what was given kept."""
        x, norm = self.volume(network), torch.linalg.vector_norm
        wrong, known = self.left.samples(self.left.physics.A(x) - self.left.y), self.left.samples(self.left.y)
        loss = norm(wrong) / norm(known) + wrong.abs().sum() / known.abs().sum()
        if self._middle is None:
            return loss
        y = self.problem.y[..., self._middle]
        return loss + norm(self.problem.physics.A(x)[..., self._middle] - y) / norm(y)


def n_adaptation(params: Any) -> int:
    """How many steps a method's params ask for; 0 where they have no such choice, or leave it open."""
    asked = getattr(params, PARAM, 0)
    return asked if isinstance(asked, int) else 0


def steps_for(scan: Scan, card: dict[str, Any]) -> int:
    """How many ``auto`` means for a scan and the card of the network's weights; without a card none."""
    if scan.modality not in FORETOLD or math.prod(scan.grid.shape) > AUTO_VOXELS or "domain" not in card:
        return 0
    return AUTO_STEPS if scan.grid.shape[0] == 1 or outside(card, scan) else 0


def is_known(scan: Scan, sha256: str, n_steps: int, precision: str) -> bool:
    """Whether the weights of that hash were adapted to this scan already, by as many steps and in this precision."""
    return scan in _found and _found[scan].key == (sha256, n_steps, precision)


def adapt(problem: Problem, network: Network, n_steps: int, sha256: str = "") -> Generator[Event, None, None]:
    """Train ``network`` (in place) by at most ``n_steps`` steps on the problem's measurements; the weights stay in its state.

    Those found last are kept for every scan of this process, with the ``sha256`` of the weights that they began with. Where
    too few measurements are there to be cut in two the network stays as it is, with a warning. Raises ParameterError where
    this makes no sense.
    """
    if problem.scan.modality not in FORETOLD:
        raise ParameterError(
            "Networks are adapted to k-space only, where samples that were left out tell which weights are better; choose "
            "adaptation_steps 0."
        )
    if problem.network_device != problem.device:
        raise ParameterError(
            f"The volume does not fit {problem.network_device}, which adaptation needs; choose adaptation_steps 0 or the CPU."
        )
    yield from problem.find_quick()  # something to look at
    if KEY not in problem.state:
        if not is_known(problem.scan, sha256, n_steps, problem.precision):
            try:
                weights, told = yield from _search(problem, network, n_steps)
            except ScanError as error:
                yield Warned(f"{error} So the network is not adapted.")
                return
            _found[problem.scan] = _Found((sha256, n_steps, problem.precision), weights, told)
        problem.state[KEY] = _found[problem.scan].weights
        yield _found[problem.scan].told
    network.load_state_dict(problem.state[KEY])


def _search(
    problem: Problem, network: Network, n_steps: int
) -> Generator[Event, None, tuple[dict[str, torch.Tensor], Measured]]:
    """The weights that best foretell the samples in no draw, and how well."""
    unseen, *draws = yield from _drawn(problem, network)
    trained, average = deepcopy(network).requires_grad_(True), deepcopy(network)
    look_in_every_layer(trained)
    optimiser = torch.optim.Adam(trained.parameters(), lr=LEARNING_RATE)
    first = least = unseen.left.error(_shown(unseen, network))
    best, best_step = _kept(network), 0
    for k in range(n_steps):
        _step(optimiser, draws[k % len(draws)].loss(trained), _rate(k, n_steps))
        follow(average, trained, min(MEMORY, (k + 1) / (k + 10)))
        yield Progress(k + 1, n_steps, ADAPTING)
        if (k + 1) % LOOK_EVERY and k + 1 < n_steps:
            continue
        x = _shown(unseen, average)
        error = unseen.left.error(x)
        yield IterationDone(k + 1, n_steps, None, as_values(x))
        if error < least:
            least, best, best_step = error, _kept(average), k + 1
        if not math.isfinite(error) or k + 1 - best_step >= PATIENCE * LOOK_EVERY:
            break
    yield Progress(n_steps, n_steps, ADAPTING)
    text = f"adapted by {best_step} steps: error of left-out measurements {least:.3%}, before {first:.3%}"
    return best, Measured({"adaptation_steps": best_step, "adapted_error": least, "error_before": first}, text)


def _drawn(problem: Problem, network: Network) -> Generator[Event, None, list[_Draw]]:
    """What is in no draw and the rest of the measurements; then the draws, which cut that rest."""
    rest, unseen = split(problem)
    pairs = [(rest, unseen), *(split(rest, part, seed) for seed, part in enumerate(DRAWS, start=1))]
    draws = []
    for i, (kept, left) in enumerate(pairs):
        work = first_estimate(kept, network.config.start_iterations, network.config.follows_noise)
        start = (yield from work) if i == 0 else result_of(work)  # the first is shown
        draws.append(_Draw(kept, left, start, network))
        yield Progress(i + 1, len(pairs), PREPARING)
    return draws


def _middle(problem: Problem) -> torch.Tensor | None:
    """Where (z, y, x) Cartesian k-space has samples near its middle; None for other samples, of which all reach there."""
    geometry = problem.scan.geometry
    if not isinstance(geometry, CartesianSampling):
        return None
    mask = torch.tensor(geometry.mask, device=problem.device)
    offsets = torch.meshgrid(*(torch.arange(n, device=problem.device) - n // 2 for n in mask.shape), indexing="ij")
    found = mask & (sum(d**2 for d in offsets) <= MIDDLE**2)
    return found if bool(found.any()) else None


@torch.no_grad()
def _shown(draw: _Draw, network: Network) -> torch.Tensor:
    return draw.volume(network)


def _kept(network: Network) -> dict[str, torch.Tensor]:
    """A copy of the weights off the device, whose memory they would keep."""
    return {name: values.to("cpu", copy=True) for name, values in network.state_dict().items()}


def _step(optimiser: torch.optim.Optimizer, loss: torch.Tensor, rate: float) -> None:
    optimiser.zero_grad()
    loss.backward()
    for group in optimiser.param_groups:
        group["lr"] = rate
        torch.nn.utils.clip_grad_norm_(group["params"], CLIP)
    optimiser.step()


def _rate(k: int, n: int) -> float:
    """Of step k (from 0): a linear warm-up, then a cosine."""
    return LEARNING_RATE * min(1.0, (k + 1) / WARMUP) * cosine(k / n, LAST_RATE)


def memory(sizes: Sizes, config: NetworkConfig, weights: int) -> int:
    """Peak of the search for a network whose weights take so many bytes; what whole volumes take counts wherever they lie."""
    activations = WITH_GRADIENT * config.prior.activation_bytes(sizes.shape)
    volume = math.prod(sizes.shape) * (8 if config.prior.complex_valued else 4)
    n_draws = len(DRAWS) + 1
    volumes = HELD_VOLUMES + 3 * n_draws + 3 * config.n_iterations
    return held_bytes(sizes, 0, 2 * n_draws) + volumes * volume + COPIES * weights + max(activations, sizes.operator)
