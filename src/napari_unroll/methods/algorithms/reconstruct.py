"""Reconstruction with a trained network: stage 1 on the whole volume, stage 2 patch by patch with context.

Efficient Unrolled Networks, arXiv 2601.02141, sec. 4.1 and algorithm 1. Stage 1: the data step is global, D_θ is applied patch by
patch with overlap and blending. Stage 2: with the estimate as context every patch is an independent local problem for the same
network; the exact operator is applied once, for the residual image r = Aᴴ(y − A x̂). One loop for every network. An equilibrium
is the fixed point of stage 1: every evaluation is an iteration, and mixing comes between them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from napari_unroll.errors import ParameterError
from napari_unroll.events import Box, Event, FixedPoint, IterationDone
from napari_unroll.methods.algorithms import adaptation
from napari_unroll.methods.algorithms.adaptation import AdaptationSteps, adapt, n_adaptation
from napari_unroll.methods.algorithms.iterations import State
from napari_unroll.methods.algorithms.network import Network, NetworkConfig, noise_told
from napari_unroll.methods.algorithms.passes import Distance, clean, prior_pass, relative_size, unknown
from napari_unroll.methods.algorithms.patch_history import SLACK, PatchHistory
from napari_unroll.methods.equilibrium.config import EquilibriumConfig
from napari_unroll.methods.equilibrium.report import SolveReport, hearing, metrics
from napari_unroll.methods.equilibrium.search import Search
from napari_unroll.methods.journal import Patch
from napari_unroll.methods.memory import Sizes, with_network
from napari_unroll.methods.patchwise import Stage, grid_of, halo_of, sliding_window
from napari_unroll.methods.problem import Learning, Method, MethodParams, Problem, as_values
from napari_unroll.methods.residual import Residual
from napari_unroll.methods.steps.data import Data
from napari_unroll.methods.steps.final import DESCRIPTION, FinalStep, with_final_step, with_memory_of_step
from napari_unroll.methods.steps.gradient import GradientStepConfig
from napari_unroll.methods.steps.scale import intensity_scale
from napari_unroll.methods.steps.start import first_estimate
from napari_unroll.methods.weights import find, load, select_weights
from napari_unroll.normal.factors import NormalFactors
from napari_unroll.normal.far import whole_normal
from napari_unroll.normal.sampling import default_support
from napari_unroll.patches.context import LocalProblem, cut, exact_local_problem, local_problem, residual_image
from napari_unroll.record import FileName
from napari_unroll.scan.scan import Modality, Scan
from napari_unroll.team import in_turn


class NetworkParams(MethodParams):
    """Choices of every reconstruction with a trained network."""

    weights: FileName = Field(
        "auto", description="Name of shipped weights, a .safetensors file, or auto: shipped ones that know such scans."
    )
    self_ensemble: bool = Field(
        True,
        description="Every pass of the network is the mean over the patch and its three mirror images: 0.2 to 0.4 dB better in "
        "four times the network's time.",
    )
    final_data_step: FinalStep = Field("none", description=DESCRIPTION)


class UnrolledParams(NetworkParams):
    """Choices of a reconstruction with a network that looks back at the measurements."""

    final_data_step: FinalStep = Field("auto", description=DESCRIPTION)

    n_iterations: Annotated[int, Field(ge=1, le=50)] | Literal["auto"] = Field(
        "auto",
        description="Unrolled iterations; auto: as many as trained. More repeat the last one, which helps where few data are.",
    )
    data_step: Literal["exact", "approximated", "mixed"] = Field(
        "exact",
        description="Operator of the whole-volume data step: AᴴA, its approximation, or AᴴA every few iterations.",
    )
    exact_every: int = Field(2, ge=1, le=50, description="With mixed: iterations between exact steps.")
    adaptation_steps: AdaptationSteps = Field("auto", description=adaptation.DESCRIPTION)
    refine: bool = Field(
        False,
        description="Second stage: solve every patch again, with the first result as its context (paper, algorithm 1).",
    )
    refine_operator: Literal["approximated", "exact"] = Field(
        "approximated",
        description="Operator inside a patch: the approximation, or the projector restricted to the patch.",
    )


class EquilibriumParams(NetworkParams):
    """Choices of a reconstruction that is the fixed point of a network."""

    final_data_step: FinalStep = Field("auto", description=DESCRIPTION)

    self_ensemble: bool = Field(
        False,
        description="Every pass of the network is the mean over the patch and its three mirror images, in four times its time.",
    )
    n_iterations: Annotated[int, Field(ge=1, le=10_000)] | Literal["auto"] = Field(
        "auto", description="Most evaluations of the network; auto: as many as in training."
    )
    tolerance: Annotated[float, Field(gt=0, lt=1)] | Literal["auto"] = Field(
        "auto", description="Relative change at which the fixed point counts as found; auto: as in training."
    )
    data_step: Literal["exact", "approximated"] = Field(
        "exact", description="Operator of the data step: AᴴA, or its approximation."
    )
    skip_settled: bool = Field(
        False,
        description="The network leaves out patches whose input hardly changed since it saw them last; the last evaluation "
        "is of all. Same tolerance; saves time where parts of the volume settle long before others.",
    )


KEPT_VOLUMES = 4
"""Inputs and answers of all patches, which overlap, for those that may be left out."""
HELD = {"real": 14, "complex": 22}
"""Volumes that networks with data steps hold beside activations and transforms; as all counts here as measured
(``benchmarks/memory.py``)."""
FOR_INVERSE, FOR_ALL_LAGS = 19, 5
"""What gradient steps of real volumes hold more: with a preconditioner, and with an Ñ whose kernel has all lags of the volume."""
SPLIT_VOLUMES = {"real": 20, "complex": 2}
"""What ADMM holds more."""
TRANSFORMS = {"resolvent": 28, "norm": 30}
"""Real volumes that are transformed at once: by the inverse of a resolvent, on a grid of 1.5 times the edge, and by Ñ of all lags,
of twice the edge, for its norm."""
ONE_PASS = UnrolledParams()
"""What a network without data steps does with the choices that it does not have."""


def _steps_of(params: NetworkParams) -> UnrolledParams:
    """The choices about data steps."""
    if isinstance(params, EquilibriumParams):
        return UnrolledParams(data_step=params.data_step)
    return params if isinstance(params, UnrolledParams) else ONE_PASS


@dataclass
class _Run:
    """The tensors of one reconstruction, divided by the intensity scale that the network was trained with."""

    problem: Problem
    params: NetworkParams
    network: Network
    unscaled_start: torch.Tensor
    scale: float = field(init=False)
    start: torch.Tensor = field(init=False)
    reports: list[SolveReport] = field(default_factory=list, init=False)
    history: PatchHistory | None = field(default=None, init=False)
    _seen: tuple[torch.Tensor, torch.Tensor] | None = field(default=None, init=False)
    """The last iterate whose residual was asked for, and what it left of the measurements."""

    def __post_init__(self) -> None:
        self.scale = intensity_scale(self.unscaled_start)
        self.start = self.unscaled_start / self.scale
        self.steps = _steps_of(self.params)
        self.adjoint = self.problem.adjoint / self.scale if self.network.config.has_data_steps else None
        self.noise = noise_told(self.network.config, self.problem.scan, self.scale)

    @property
    def n_iterations(self) -> int:
        """K, or as many as were asked for; of an equilibrium the most evaluations."""
        if self.equilibrium is not None:
            return self.equilibrium.max_evaluations
        asked = self.steps.n_iterations
        return self.network.n_iterations if asked == "auto" else asked

    @property
    def reach(self) -> int:
        """How far the network sees to one side, in voxels."""
        return self.network.config.prior.reach

    @property
    def equilibrium(self) -> EquilibriumConfig | None:
        """How the fixed point is looked for, None where iterations are counted."""
        config, params = self.network.config.equilibrium, self.params
        if config is None or not isinstance(params, EquilibriumParams):
            return config
        asked = {"max_evaluations": params.n_iterations, "tolerance": params.tolerance}
        return config.model_copy(update={name: value for name, value in asked.items() if value != "auto"})

    def at(self, x: torch.Tensor, k: int) -> Data | None:
        """The data term of the whole volume around x.

        The gradient there is that of the operator that was chosen for iteration k; Ñ carries it on from there.
        """
        if self.adjoint is None:
            return None
        factors = _normal_of(self.problem)
        if self._is_exact(k):
            image = self.residual_at(x).image() / self.scale
            return Data.whole(factors, x, image, self.problem.physics.normal)
        approximation = whole_normal(factors)
        return Data(LocalProblem(approximation, x, self.adjoint - approximation.apply(x)), factors)

    def residual_at(self, x: torch.Tensor) -> Residual:
        """What x leaves of the measurements, in the scan's units; at the very tensor that was asked for last it costs nothing."""
        problem, unscaled = self.problem, x * self.scale
        if self._seen is None or self._seen[0] is not x:
            self._seen = x, problem.residual_at(unscaled).left
        return problem.residual_again(unscaled, self._seen[1])

    def _is_exact(self, k: int) -> bool:
        mode = self.steps.data_step
        return mode == "exact" or (mode == "mixed" and k % self.steps.exact_every == 0)

    def local(self, boxes: list[Box], context: torch.Tensor, residual: torch.Tensor) -> Data:
        """The local problems of ``boxes`` with the operator that was chosen for refinement (exact: one box)."""
        factors = _normal_of(self.problem)
        if self.steps.refine_operator == "exact":
            return Data(exact_local_problem(self.problem.physics, context, residual, boxes[0]), factors, boxes)
        return Data(local_problem(factors, context, residual, boxes), factors, boxes)

    def denoise(self, patch: torch.Tensor, k: int) -> torch.Tensor:
        """D_θ of iteration k on a batch of patches, wherever they are; the fixed points in it report to ``reports``."""
        given = patch.to(self.problem.network_device)
        prior = partial(self.network.denoise, k=k, noise=self.noise)
        with hearing() as heard:
            cleaned = clean(prior, given, self.problem.precision, self.params.self_ensemble)
        self.reports += heard
        return cleaned.to(patch.device)


def reconstruct(
    problem: Problem, params: NetworkParams, network: Network, start: torch.Tensor
) -> Generator[Event, None, torch.Tensor]:
    """Both stages with a given network from the start x_0 (1, 1, z, y, x); returns the volume (z, y, x)."""
    run = _Run(problem, params, network, start)
    x = yield from (_whole_volume(run) if run.equilibrium is None else _equilibrium(run, run.equilibrium))
    if run.steps.refine:
        x = yield from _refine(run, x)
    return x[0, 0] * run.scale


def _whole_volume(run: _Run) -> Generator[Event, None, torch.Tensor]:
    """Stage 1; the state after every finished iteration is kept in the problem's state."""
    kept, n, network = run.problem.state, run.n_iterations, run.network
    state: State = kept.get("network", State(run.start))
    for k in range(kept.get("iteration", 0), n):
        n_heard = len(run.reports)
        state = yield from _iterate(run, state, k)
        if k + 1 == n:
            with torch.no_grad():
                state = State(network.finish(state.x, run.at(state.x, k)))
        kept.update(network=state, iteration=k + 1)
        yield _iteration_done(run, state.x, k + 1, run.reports[n_heard:])
    yield from _unconverged(run.reports)
    return state.x


def _equilibrium(run: _Run, settings: EquilibriumConfig) -> Generator[Event, None, torch.Tensor]:
    """The fixed point of an iteration on the whole volume; the search for it is kept in the problem's state."""
    search: Search = run.problem.state.setdefault("search", Search(settings, run.start))
    history = run.history = _history_of(run, settings)
    while not search.is_over:
        k, point = search.n_evaluations, search.point
        is_last = search.is_near or k + 1 >= settings.max_evaluations
        history.bound = SLACK * search.residuals[-1] if search.residuals and not is_last else 0.0
        state = yield from _iterate(run, State(point), k)
        with torch.no_grad():
            search.add(state.x, history.is_whole)
            history.moved(point, state.x)
        yield _fixed_point(run, search, history)
        yield _iteration_done(run, state.x, k + 1, [search.report()])
    if not search.converged:
        yield _iteration_done(run, search.best, search.n_evaluations, [search.report()])
    return search.best


def _history_of(run: _Run, settings: EquilibriumConfig) -> PatchHistory:
    """That of an earlier attempt with the same patches, or a new one; kept in the problem's state."""
    grid, params = grid_of(run.problem), run.params
    is_skipping = isinstance(params, EquilibriumParams) and params.skip_settled
    kept: PatchHistory | None = run.problem.state.get("patches")
    if kept is None or kept.grid != grid:
        kept = PatchHistory(grid, is_skipping)
    run.problem.state["patches"] = kept
    return kept


def _fixed_point(run: _Run, search: Search, history: PatchHistory) -> FixedPoint:
    """How far the search has come, in words, figures and maps."""
    report, promised = search.report(), run.network.promised_rate
    measured = "" if report.rate is None else f"On this scan an iteration contracted to {report.rate:.2f} or less; "
    is_exact = len(history.grid) == 1 or halo_of(run.problem, run.reach) > 0
    whole = "" if is_exact else " for volumes in one piece"
    promise = "no guarantee by the network." if promised is None else f"the network guarantees {promised:.2f}{whole}."
    words = [report.advice, f"{measured}{promise}" if measured else promise[:1].upper() + promise[1:], history.text]
    return FixedPoint(
        " ".join(word for word in words if word),
        report.converged,
        {
            "evaluations": report.evaluations,
            "residual": report.residual if math.isfinite(report.residual) else None,
            "tolerance": search.config.tolerance,
            "measured_rate": report.rate,
            "promised_rate": promised,
            "patch_evaluations": int(history.evaluations.sum()),
        },
        {"evaluations": history.evaluations.copy(), "residual": history.residuals.copy()},
        history.grid.edges,
    )


def _iterate(run: _Run, state: State, k: int) -> Generator[Event, None, State]:
    """Iteration k on the whole volume."""
    with torch.no_grad():
        data = run.at(state.x, k)
        given = run.network.before(state, k, data)
    cleaned = yield from _prior_pass(run, given, k, data)
    with torch.no_grad():
        return run.network.after(state, cleaned, k, data)


def _iteration_done(run: _Run, x: torch.Tensor, k: int, reports: list[SolveReport]) -> IterationDone:
    """The residual costs a projection, which one pass of a network does without and the next data step uses."""
    with torch.no_grad():
        residual = run.residual_at(x).norm() / run.problem.size if run.adjoint is not None else None
    return IterationDone(k, run.n_iterations, residual, as_values(x * run.scale), metrics(reports))


def _unconverged(reports: list[SolveReport]) -> Generator[FixedPoint, None, None]:
    """Say how many of the fixed points inside of priors were not found."""
    lost = [report for report in reports if not report.converged]
    if lost:
        worst = max(report.residual for report in lost)
        most = max(report.evaluations for report in lost)
        yield FixedPoint(
            f"{len(lost)} of {len(reports)} fixed points inside the network were not found (not converged): {most} "
            f"evaluations, the worst relative residual is {worst:.1e}. Their volumes are as far as the search came.",
            converged=False,
            figures={"evaluations": most, "residual": worst},
        )


def _prior_pass(run: _Run, given: torch.Tensor, k: int, data: Data | None) -> Generator[Event, None, torch.Tensor]:
    """D_θ of iteration k over the whole volume; patches are as far from the data as the iterate that k began with."""
    n_patches, n = len(grid_of(run.problem)), run.n_iterations
    stage = Stage(f"iteration {k + 1} of {n}", k * n_patches, n * n_patches)
    prior = partial(run.denoise, k=k)
    distance: Distance = unknown
    if data is not None and run.adjoint is not None:
        distance = partial(relative_size, data.local.residual, run.adjoint)
    over = partial(prior_pass, run.problem, given, prior, stage, run.scale, distance, reach=run.reach)
    return (yield from (over() if run.history is None else run.history.watch(given, over)))


def _refine(run: _Run, context: torch.Tensor) -> Generator[Event, None, torch.Tensor]:
    """Stage 2."""
    problem = run.problem
    with torch.no_grad():
        residual = residual_image(problem.physics, problem.y / run.scale, context)

    def apply(boxes: list[Box]) -> list[Patch]:
        return _solve_patches(run, boxes, run.local(boxes, context, residual))

    n_batch = 1 if run.steps.refine_operator == "exact" else None
    stage = Stage("refining patches")
    work = partial(in_turn, apply=apply)
    return (yield from sliding_window(grid_of(problem), context, work, stage, run.scale, n_batch, problem=problem))


@torch.no_grad()
def _solve_patches(run: _Run, boxes: list[Box], data: Data) -> list[Patch]:
    """K iterations on the local problems of ``boxes``, with ‖∇‖ / ‖P Aᴴy‖ of each at the result."""
    network, state = run.network, State(cut(run.start, boxes))
    for k in range(run.n_iterations):
        state = network.after(state, run.denoise(network.before(state, k, data), k), k, data)
    u = network.finish(state.x, data)
    gradients, adjoints = data.gradient(u), cut(run.adjoint, boxes) if run.adjoint is not None else u
    parts = zip(boxes, u, gradients, adjoints, strict=True)
    return [Patch(box, v, _norm(g) / max(_norm(b), 1e-30)) for box, v, g, b in parts]


def _norm(x: torch.Tensor) -> float:
    return float(torch.linalg.vector_norm(x))


def _normal_of(problem: Problem) -> NormalFactors:
    if problem.normal is None:
        raise ParameterError("These weights work with the approximated normal operator; fit it first.")
    return problem.normal


def _from_start(network: Network, problem: Problem, params: NetworkParams) -> Generator[Event, None, torch.Tensor]:
    """Both stages with a given network from the start that it was trained for."""
    start = yield from first_estimate(problem, network.config.start_iterations, network.config.follows_noise)
    return (yield from reconstruct(problem, params, network, start))


def learned(
    *,
    name: str,
    title: str,
    summary: str,
    source: str,
    params: type[NetworkParams],
    network: Callable[[Modality], NetworkConfig],
    training: Callable[[Modality], Mapping[str, Any]] = lambda modality: {},
    iterative: bool = True,
) -> Method:
    """The row of a method whose network is trained: everything that such methods share is filled in."""

    def solve(problem: Problem, params: NetworkParams) -> Generator[Event, None, torch.Tensor]:
        weights, params = select_weights(name, problem.scan, params.weights), settle(problem.scan, params)
        trained = load(weights, (name,), problem.y.is_complex(), problem.device).split_to(problem.network_device)
        if n_steps := n_adaptation(params):
            yield from adapt(problem, trained, n_steps, weights.sha256)
        return (yield from with_final_step(partial(_from_start, trained))(problem, params))

    def settle(scan: Scan, params: NetworkParams) -> NetworkParams:
        if getattr(params, adaptation.PARAM, 0) != "auto":
            return params
        card = select_weights(name, scan, params.weights).card
        return params.model_copy(update={adaptation.PARAM: adaptation.steps_for(scan, card)})

    def memory(sizes: Sizes, params: NetworkParams) -> int:
        return _memory(sizes, params, network("ct"))

    return Method(
        name=name,
        title=title,
        summary=summary,
        source=source,
        params=params,
        solve=solve,
        needs_weights=True,
        patchwise=True,
        iterative=iterative,
        memory=with_memory_of_step(memory),
        needs_normal=(lambda params: True) if network("ct").has_data_steps else None,
        find_weights=lambda scan, params: select_weights(name, scan, params.weights),
        settle=settle,
        learning=Learning(network=network, options=training),
    )


def _memory(sizes: Sizes, params: NetworkParams, default: NetworkConfig) -> int:
    """Blending and iterates of the whole volume, transforms of it, one patch's activations."""
    config = network_config(params, default)
    mixed = config.equilibrium.volumes if config.equilibrium is not None else 0
    all_lags = default_support(sizes.shape, "other", None) == sizes.shape
    volumes, measurements = (_held(config, all_lags) + mixed, 3) if config.has_data_steps else (8, 1)
    kept = KEPT_VOLUMES * sizes.in_patches if getattr(params, "skip_settled", False) else 0
    own = kept + network_bytes(sizes, params, config, volumes, measurements, _transformed(config, all_lags))
    if not n_adaptation(params):
        return own
    return max(own, adaptation.memory(sizes, config, _weights_bytes(params)))


def _held(config: NetworkConfig, all_lags: bool) -> int:
    """Volumes beside the activations and transforms; ``all_lags``: the kernel of Ñ has those of the volume."""
    kind, step = "complex" if config.prior.complex_valued else "real", config.data_step
    volumes = HELD[kind] + (SPLIT_VOLUMES[kind] if config.iteration == "admm" else 0)
    if kind == "complex" or not isinstance(step, GradientStepConfig):
        return volumes
    return volumes + (FOR_ALL_LAGS * all_lags if step.preconditioner is None else FOR_INVERSE)


def _transformed(config: NetworkConfig, all_lags: bool) -> int:
    """Volumes that transforms take beside those that are held."""
    if config.prior.complex_valued or not config.has_data_steps:
        return 0
    return TRANSFORMS["resolvent"] if _is_resolvent(config) else TRANSFORMS["norm"] * all_lags


def _is_resolvent(config: NetworkConfig) -> bool:
    """Whether its data steps are resolvents."""
    return config.data_step is not None and config.data_step.kind == "resolvent"


def network_bytes(
    sizes: Sizes,
    params: NetworkParams,
    config: NetworkConfig,
    volumes: float,
    measurements: float,
    transforms: float = 0.0,
) -> int:
    """:func:`with_network`, and the chosen weights in single precision: files may be half of that, and are read beside them."""
    return _weights_bytes(params) + with_network(
        sizes, config.prior.activation_bytes(sizes.patch), volumes, measurements, transforms
    )


def _weights_bytes(params: NetworkParams) -> int:
    """Of the chosen weights."""
    return 0 if params.weights == "auto" else 2 * find(params.weights).path.stat().st_size


def network_config(params: NetworkParams, default: NetworkConfig) -> NetworkConfig:
    """Of the chosen weights, or the ``default`` one where the choice is left open."""
    return default if params.weights == "auto" else find(params.weights).config
