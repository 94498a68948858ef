"""From a 2-D prior to a 2.5-D or 3-D one that starts where the 2-D one ended, and from 2.5-D back."""

from __future__ import annotations

import torch

from napari_unroll.errors import WeightsError
from napari_unroll.methods.networks.convolution import SETTLE, refresh
from napari_unroll.methods.networks.prior import Prior


def inflate(prior: Prior) -> Prior:
    """The 3-D prior that does slice by slice, up to its strided layers, what the 2-D ``prior`` does.

    Kernels of odd size fill the central slice of the 3-D kernel. The strided 2×2 kernels fill both slices: halved on the
    way down, so that pairs of slices are averaged, and whole on the way up, so that both get the result. On volumes
    constant along z every feature map, and so the output, equals the 2-D network's; elsewhere pairs, fours and eights
    of slices share their coarse features (inflation as in Carreira & Zisserman 2017, doi:10.1109/CVPR.2017.502; Efficient
    Unrolled Networks, sec. 5).

    Raises WeightsError where the prior is three-dimensional already, or sees neighbouring slices.
    """
    if prior.config.dim != 2 or prior.config.neighbours:
        raise WeightsError("Only 2-D networks can be inflated; this one sees several slices already.")
    inflated = Prior(prior.config.model_copy(update={"dim": 3}), prior.lipschitz)
    flat, state = dict(prior.backbone.named_modules()), inflated.state_dict()
    inflated.load_state_dict(
        {name: known for name, known in prior.state_dict().items() if known.shape == state[name].shape}, strict=False
    )
    with torch.no_grad():
        for name, module in inflated.backbone.named_modules():
            if isinstance(module, torch.nn.Conv3d | torch.nn.ConvTranspose3d):
                module.weight.copy_(_thick(flat[name].weight, isinstance(module, torch.nn.ConvTranspose3d)))
    refresh(inflated, SETTLE)
    return inflated


def with_neighbours(prior: Prior, n: int) -> Prior:
    """The 2-D prior that sees ``n`` slices on either side too; until it is trained they have no effect.

    Raises WeightsError where the prior is three-dimensional, or sees more already.
    """
    if prior.config.dim != 2 or prior.config.neighbours > n:
        raise WeightsError(
            f"This network cannot be made to see {n} neighbouring slices: it is 3-D, or sees more already."
        )
    wider = Prior(prior.config.model_copy(update={"neighbours": n}), prior.lipschitz)
    state, wanted = prior.state_dict(), wider.state_dict()
    (name,) = (name for name in state if state[name].shape != wanted[name].shape)  # the first convolution
    head, first, known = torch.zeros_like(wanted[name]), state[name], prior.config.seen
    head[:, :known] = first[:, :known]
    head[:, known + wider.config.seen - prior.config.seen :] = first[:, known:]  # σ, where it is told
    wider.load_state_dict({**state, name: head})
    return wider


def without_neighbours(prior: Prior) -> Prior:
    """The 2-D prior that makes of a slice what ``prior`` makes of a volume of equal slices."""
    if not prior.config.neighbours:
        return prior
    flat = Prior(prior.config.model_copy(update={"neighbours": 0}), prior.lipschitz)
    state, wanted = prior.state_dict(), flat.state_dict()
    (name,) = (name for name in state if state[name].shape != wanted[name].shape)  # the first convolution
    seen = prior.config.seen
    slices = state[name][:, :seen].unflatten(1, (-1, prior.config.parts)).sum(1)
    flat.load_state_dict({**state, name: torch.cat([slices, state[name][:, seen:]], 1)})
    return flat


def _thick(kernel: torch.Tensor, is_upsampling: bool) -> torch.Tensor:
    """(out, in, z, y, x) of a kernel (out, in, y, x)."""
    depth = kernel.shape[-1]
    if depth % 2 == 0:
        return torch.stack([kernel if is_upsampling else kernel / depth] * depth, 2)
    thick = torch.zeros(*kernel.shape[:2], depth, *kernel.shape[2:], dtype=kernel.dtype, device=kernel.device)
    thick[:, :, depth // 2] = kernel
    return thick
