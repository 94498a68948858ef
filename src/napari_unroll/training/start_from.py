"""The network that a training starts from: shipped or own weights, grown to what the plan asks for."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import ValidationError

from napari_unroll.errors import WeightsError
from napari_unroll.methods.algorithms.network import Network, NetworkConfig
from napari_unroll.methods.networks.inflate import inflate, with_neighbours, without_neighbours
from napari_unroll.methods.networks.prior import Prior, PriorConfig
from napari_unroll.methods.registry import get
from napari_unroll.methods.weights import find, load_network
from napari_unroll.scan.scan import MODALITIES
from napari_unroll.training.plan import TrainingPlan

PER_ITERATION = {"data_step.stepsize", "data_step.log_strength", "sigma", "noise_slope"}
"""Parameters with one entry per iteration, or one for all."""


def with_initial(plan: TrainingPlan) -> tuple[TrainingPlan, Network | None]:
    """The plan with the architecture of its initial weights, and their network; None where it starts anew.

    2-D weights are inflated where the plan's prior is 3-D, and learn to see neighbouring slices where it has more of them, or
    forget them where the plan is of single slices;
    iterations that they lack repeat their last one, and those that get a prior of their own begin with the shared one. Weights
    of another method lend their first prior: a denoiser begins an unrolled network (Efficient Unrolled Networks, arXiv
    2601.02141, appendix A.1), or the other way round. Raises WeightsError where one is real, the other complex.
    """
    if plan.initial is None:
        return plan, None
    weights = find(plan.initial)
    if weights.config.prior.complex_valued != (plan.modality == "mri"):
        raise WeightsError(
            f"The weights {plan.initial} are for {MODALITIES[weights.modality]}, the plan is for {MODALITIES[plan.modality]}; "
            "choose the modality of the weights."
        )
    network = load_network(weights.path)
    if weights.method != plan.method:
        network = _with_prior(network.prior(0), plan)
    network = grown(network, plan.network, plan.slices)
    return plan.model_copy(update={"network": network.config}), network.requires_grad_(True)


def _with_prior(prior: Prior, plan: TrainingPlan) -> Network:
    """A new network of the plan's method in which every prior begins as ``prior``."""
    learning = get(plan.method).learning
    assert learning is not None
    own = learning.network(plan.modality).model_dump()
    try:
        network = Network(NetworkConfig(**own | {"prior": prior.config}))
    except ValidationError as error:
        why = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise WeightsError(f"The prior of {plan.initial} does not fit the method {plan.method}: {why}.") from None
    for copy in network.priors:
        copy.load_state_dict(prior.state_dict() | {k: v for k, v in copy.state_dict().items() if k == "share"})
    return network


def grown(network: Network, wanted: NetworkConfig, is_flat: bool = False) -> Network:
    """A network that begins like ``network`` and has what ``wanted`` has more of: iterations, priors, slices seen, noise told.

    With ``is_flat`` it is for single slices, of which those that saw neighbours see nothing else.
    """
    has = network.config
    see = _alone if is_flat else _seeing
    changes: dict[str, Any] = {"prior": see(network.prior(0), wanted.prior).config}
    changes["follows_noise"] = has.follows_noise or (wanted.follows_noise and has.prior.is_conditioned)
    if has.has_data_steps:
        changes |= {name: max(getattr(has, name), getattr(wanted, name)) for name in ("n_iterations", "n_priors")}
    has_grown = any(changes.get(name, 1) > getattr(has, name) for name in ("n_iterations", "n_priors"))
    if has.n_priors > 1 and has_grown:  # other equal runs of iterations would mix the old ones
        changes["n_priors"] = changes["n_iterations"]
    grown = Network(has.model_copy(update=changes))
    state = {name: value for name, value in network.state_dict().items() if not name.startswith("priors.")}
    for name in PER_ITERATION & state.keys():
        missing = len(grown.state_dict()[name]) - len(state[name])
        state[name] = torch.cat([state[name], state[name][-1:].expand(missing)])
    grown.load_state_dict(state, strict=False)
    for k in range(grown.n_iterations):
        grown.prior(k).load_state_dict(see(network.prior(k), wanted.prior).state_dict())
    return grown


def _seeing(prior: Prior, wanted: PriorConfig) -> Prior:
    """The prior, or one that begins like it and sees more slices."""
    if prior.config.dim == 2 and wanted.dim == 3:
        return inflate(prior)
    if prior.config.dim == 2 and wanted.neighbours > prior.config.neighbours:
        return with_neighbours(prior, wanted.neighbours)
    return prior


def _alone(prior: Prior, wanted: PriorConfig) -> Prior:
    """The prior of single slices."""
    return _seeing(without_neighbours(prior), wanted)
