"""The network that a training starts from: shipped or own weights, grown to what the plan asks for."""

from __future__ import annotations

import torch

from napari_unroll.errors import WeightsError
from napari_unroll.methods.networks.inflate import inflate, with_neighbours
from napari_unroll.methods.networks.prior import Prior, PriorConfig
from napari_unroll.methods.unrolled.checkpoint import find, load_network
from napari_unroll.methods.unrolled.network import UnrolledConfig, UnrolledPGD
from napari_unroll.training.plan import TrainingPlan


def with_initial(plan: TrainingPlan) -> tuple[TrainingPlan, UnrolledPGD | None]:
    """The plan with the architecture of its initial weights, and their network; None where it starts anew.

    2-D weights are inflated where the plan's prior is 3-D, and learn to see neighbouring slices where it has more of them;
    iterations that they lack repeat their last one, and those that get a prior of their own begin with the shared one.
    Raises WeightsError where they are for the other modality or task.
    """
    if plan.initial is None:
        return plan, None
    network = load_network(find(plan.initial).path)
    config = network.config
    if config.prior.complex_valued != (plan.modality == "mri") or config.data_step != (plan.task == "unrolled"):
        kind = "MRI" if config.prior.complex_valued else "CT"
        task = "unrolled" if config.data_step else "post-processing"
        raise WeightsError(
            f"The weights {plan.initial} are for {task} {kind} networks, the plan is for {plan.task} "
            f"{plan.modality.upper()}; choose the modality and task of the weights."
        )
    network = _grown(network, plan.network)
    return plan.model_copy(update={"network": network.config}), network.requires_grad_(True)


def _grown(network: UnrolledPGD, wanted: UnrolledConfig) -> UnrolledPGD:
    """A network that begins like ``network`` and has what ``wanted`` has more of: iterations, priors, slices seen."""
    has = network.config
    changes = {"prior": _seeing(network.prior(0), wanted.prior).config}
    if has.data_step:
        changes |= {name: max(getattr(has, name), getattr(wanted, name)) for name in ("n_iterations", "n_priors")}
    has_grown = any(changes.get(name, 1) > getattr(has, name) for name in ("n_iterations", "n_priors"))
    if has.n_priors > 1 and has_grown:  # other equal runs of iterations would mix the old ones
        changes["n_priors"] = changes["n_iterations"]
    grown = UnrolledPGD(has.model_copy(update=changes))
    state = {name: value for name, value in network.state_dict().items() if not name.startswith("priors.")}
    missing = grown.n_iterations - network.n_iterations
    for name in ("stepsize", "sigma"):
        state[name] = torch.cat([state[name], state[name][-1:].expand(missing)])
    grown.load_state_dict(state, strict=False)
    for k in range(grown.n_iterations):
        grown.prior(k).load_state_dict(_seeing(network.prior(k), wanted.prior).state_dict())
    return grown


def _seeing(prior: Prior, wanted: PriorConfig) -> Prior:
    """The prior, or one that begins like it and sees more slices."""
    if prior.config.dim == 2 and wanted.dim == 3:
        return inflate(prior)
    if prior.config.dim == 2 and wanted.neighbours > prior.config.neighbours:
        return with_neighbours(prior, wanted.neighbours)
    return prior
