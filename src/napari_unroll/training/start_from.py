"""The network that a training starts from: shipped or own weights, grown to what the plan asks for."""

from __future__ import annotations

import torch

from napari_unroll.errors import WeightsError
from napari_unroll.methods.networks.inflate import inflate, with_neighbours
from napari_unroll.methods.networks.prior import Prior, PriorConfig
from napari_unroll.methods.unrolled.checkpoint import find, load_network
from napari_unroll.methods.unrolled.network import UnrolledPGD
from napari_unroll.training.plan import TrainingPlan


def with_initial(plan: TrainingPlan) -> tuple[TrainingPlan, UnrolledPGD | None]:
    """The plan with the architecture of its initial weights, and their network; None where it starts anew.

    2-D weights are inflated where the plan's prior is 3-D, and learn to see neighbouring slices where it has more of them;
    iterations that they lack repeat their last one. Raises WeightsError where they are for the other modality or task.
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
    network = _grown(network, plan.network.n_iterations, plan.network.prior)
    return plan.model_copy(update={"network": network.config}), network.requires_grad_(True)


def _grown(network: UnrolledPGD, n_iterations: int, wanted: PriorConfig) -> UnrolledPGD:
    prior = _seeing(network.prior, wanted)
    missing = max(0, n_iterations - network.n_iterations) if network.config.data_step else 0
    changes = {"prior": prior.config, "n_iterations": network.config.n_iterations + missing}
    grown = UnrolledPGD(network.config.model_copy(update=changes))
    state = network.state_dict() | {f"prior.{name}": value for name, value in prior.state_dict().items()}
    for name in ("stepsize", "sigma"):
        state[name] = torch.cat([state[name], state[name][-1:].expand(missing)])
    grown.load_state_dict(state)
    return grown


def _seeing(prior: Prior, wanted: PriorConfig) -> Prior:
    """The prior, or one that begins like it and sees more slices."""
    if prior.config.dim == 2 and wanted.dim == 3:
        return inflate(prior)
    if prior.config.dim == 2 and wanted.neighbours > prior.config.neighbours:
        return with_neighbours(prior, wanted.neighbours)
    return prior
