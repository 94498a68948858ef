"""The network that a training starts from: shipped or own weights, inflated where they are two-dimensional."""

from __future__ import annotations

from napari_unroll.errors import WeightsError
from napari_unroll.methods.networks.inflate import inflate
from napari_unroll.methods.unrolled.checkpoint import find, load_network
from napari_unroll.methods.unrolled.network import UnrolledPGD
from napari_unroll.training.plan import TrainingPlan


def with_initial(plan: TrainingPlan) -> tuple[TrainingPlan, UnrolledPGD | None]:
    """The plan with the architecture of its initial weights, and their network; None where it starts anew.

    2-D weights are inflated unless the plan's prior is 2-D too. Raises WeightsError where they are for the other
    modality or task.
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
    if config.prior.dim == 2 and plan.network.prior.dim == 3:
        network = _inflated(network)
    return plan.model_copy(update={"network": network.config}), network.requires_grad_(True)


def _inflated(network: UnrolledPGD) -> UnrolledPGD:
    prior = inflate(network.prior)
    thick = UnrolledPGD(network.config.model_copy(update={"prior": prior.config}))
    thick.load_state_dict(network.state_dict() | {f"prior.{k}": v for k, v in prior.state_dict().items()})
    return thick
