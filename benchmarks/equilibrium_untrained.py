"""What equilibria cost and whether their fixed points are found before any training; run by ``equilibrium.py --untrained``.

One generated cone beam of 16³ voxels and one coil scan of 8×24×24 for convergence, two cone beams of 40³ for patches, one slice
without physics for the cost.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

from napari_unroll.events import FixedPoint, map_events, result_of
from napari_unroll.methods.algorithms.network import Network, NetworkConfig
from napari_unroll.methods.algorithms.reconstruct import EquilibriumParams, reconstruct
from napari_unroll.methods.equilibrium.lipschitz import lipschitz_at
from napari_unroll.methods.equilibrium.report import hearing
from napari_unroll.methods.networks.convolution import refresh
from napari_unroll.methods.networks.shallow import ShallowConfig
from napari_unroll.methods.problem import Problem, measured
from napari_unroll.methods.registry import get
from napari_unroll.methods.steps import data
from napari_unroll.methods.steps.scale import intensity_scale
from napari_unroll.methods.steps.start import first_estimate
from napari_unroll.normal.fit import FitOptions, fit_now
from napari_unroll.patches.context import LocalProblem
from napari_unroll.physics.build import build_physics
from napari_unroll.physics.samples import sample_cone_beam, sample_multicoil
from napari_unroll.physics.simulate import Exposure, simulate_ct
from napari_unroll.scan.phantoms import ellipsoids
from napari_unroll.scan.scan import Scan

SHAPE = (1, 1, 1, 64, 64)
STAGES = 8


class Data:
    """The exact data term of a scan around every iterate."""

    def __init__(self, scan: Scan) -> None:
        self.physics = build_physics(scan, "cpu")
        self.factors = fit_now(self.physics, FitOptions(n_test=0))
        y = measured(scan, "cpu")
        start = self.physics.A_dagger(y)
        self.start = start / intensity_scale(start)
        self.adjoint = self.physics.A_adjoint(y) / intensity_scale(start)

    def at(self, x: torch.Tensor, k: int) -> data.Data:
        normal = self.physics.normal
        return data.Data(LocalProblem(self.factors, x, self.adjoint - normal(x)), self.factors, operator=normal)


def shallow(scan: Data, published: bool, seed: int) -> None:
    """LUSER's block at the start of training: ‖J‖ at r = 0 and at the end, and the solves of eight stages."""
    torch.manual_seed(seed)
    prior = ShallowConfig(published=published)
    network = Network(NetworkConfig(prior=prior, data_step={"preconditioner": None}, n_iterations=STAGES))
    network = network.eval().requires_grad_(False)
    with hearing() as reports:
        network(scan.start, scan)
    block = network.prior(0).backbone
    injected = block.inject(scan.start)
    found = block(scan.start)
    with torch.enable_grad():
        norm = float(lipschitz_at(lambda r: block.update(r, injected), found, 20).detach())
    done = sum(r.converged for r in reports)
    residual = max(r.residual for r in reports)
    print(
        f"LUSER block, published={published}, seed {seed}: {done} of {len(reports)} stages found, "
        f"{[r.evaluations for r in reports]} evaluations, worst residual {residual:.1e}, ‖J‖ at the end {norm:.2g}"
    )


def solvers(scan: Data, method: str, seed: int = 0) -> None:
    """Evaluations to 1e-4 of an untrained network, on the whole volume."""
    told = []
    for solver in ("anderson", "damped", "plain"):
        torch.manual_seed(seed)
        config = get(method).learning.network("mri")
        prior = config.prior.model_copy(update={"width": 16, "layers": 5})
        equilibrium = config.equilibrium.model_copy(update={"solver": solver, "max_evaluations": 400})
        network = Network(config.model_copy(update={"prior": prior, "equilibrium": equilibrium})).eval()
        with hearing() as reports, torch.no_grad():
            network(scan.start, scan)
        told.append(f"{solver} {reports[0].evaluations}{'' if reports[0].converged else ' (not converged)'}")
    print(f"{method}, untrained, 5×16: {', '.join(told)}")


def small_object(n: int, n_views: int) -> Scan:
    """The cone-beam sample's scanner around an object that fills an eighth of the volume."""
    scan, half = sample_cone_beam(n, n_views, oversample=1), n // 2
    truth = np.zeros((n,) * 3, np.float32)
    truth[half // 2 :, half // 2 :, :half][:half, :half] = ellipsoids((half,) * 3, 10_003)
    return simulate_ct(truth, scan.geometry, scan.grid, Exposure(photons=1e5), seed=1)


def settled(scan: Scan, method: str) -> None:
    """Evaluations of patches with and without those that have settled, on the whole volume, from total variation."""
    physics, y = build_physics(scan, "cpu"), measured(scan, "cpu")
    torch.manual_seed(0)
    config = get(method).learning.network("ct")
    prior = config.prior.model_copy(update={"width": 16, "layers": 5})
    network = Network(config.model_copy(update={"prior": prior})).eval().requires_grad_(False)
    refresh(network, 30)
    common = {"scan": scan, "physics": physics, "y": y, "normal": fit_now(physics, FitOptions(n_test=0))}
    start, found = result_of(first_estimate(Problem(**common), 60)), []
    for skip in (False, True):
        problem, begun = Problem(**common, patch_size=(14,) * 3, overlap=4), time.process_time()
        work = reconstruct(problem, EquilibriumParams(skip_settled=skip), network, start)
        told: list[FixedPoint] = []
        found.append(
            result_of(map_events(work, lambda e, told=told: told.append(e) if isinstance(e, FixedPoint) else e))
        )
        print(f"{method}, skip_settled={skip}: {time.process_time() - begun:.1f} s CPU, {told[-1].figures}")
    print(f"apart: {float(torch.linalg.vector_norm(found[1] - found[0]) / torch.linalg.vector_norm(found[0])):.1e}")


def wide_network(method: str) -> Network:
    """The default network in 2-D with 64 channels (DnCNN: 17 layers), its fixed point cut off at 20 evaluations."""
    torch.manual_seed(0)
    config = get(method).learning.network("ct")
    prior = {"dim": 2, "neighbours": 0}
    if config.prior.kind == "dncnn":
        prior |= {"layers": 17, "width": 64}
    if config.equilibrium is not None:
        config = config.model_copy(
            update={"equilibrium": config.equilibrium.model_copy(update={"max_evaluations": 20})}
        )
    return Network(config.model_copy(update={"prior": config.prior.model_copy(update=prior)}))


def kept_bytes(network: Network, loss: Callable[[], torch.Tensor] | None = None) -> int:
    """What a training step keeps for its backward pass besides the weights; of no ``loss``, on one 64² slice without physics."""

    def slice_loss() -> torch.Tensor:
        return network(torch.rand(SHAPE), Identity()).iterates[-1].square().mean()

    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        (loss or slice_loss)().backward()
    return sum(kept.values()) - sum(p.nbytes for p in network.parameters())


def cost(method: str) -> None:
    """What a training step keeps, and its seconds."""
    network, begun = wide_network(method), time.perf_counter()
    with hearing() as reports:
        kept = kept_bytes(network)
    evaluations = [r.evaluations for r in reports if not r.is_backward]
    print(f"{method}: {kept / 2**20:.1f} MiB kept, {time.perf_counter() - begun:.2f} s, {evaluations} evaluations")


class Identity:
    """A = 1 and y = 1: a data term that costs nothing."""

    def at(self, x: torch.Tensor, k: int) -> Identity:
        return self

    def gradient(self, u: torch.Tensor) -> torch.Tensor:
        return u - 1

    def preconditioner(self, alpha: float | None, degree: int = 0):
        return lambda g: g

    def resolve(self, v: torch.Tensor, strength: torch.Tensor, tolerance: float, max_steps: int) -> torch.Tensor:
        return (v + strength) / (1 + strength)


def main() -> None:
    """Print everything."""
    cone, coils = Data(sample_cone_beam(16, 12, oversample=1)), Data(sample_multicoil((8, 24, 24), 4, 3))
    for published in (True, False):
        for seed in range(2):
            shallow(cone, published, seed)
    for method in ("deq4ip", "de-grad", "mol-sn"):
        solvers(coils, method)
    for scan in (sample_cone_beam(40, 20, oversample=1), small_object(40, 20)):
        for method in ("mol-sn", "deq4ip"):
            settled(scan, method)
    for method in ("lu-dncnn", "luser-sw", "modl", "deq4ip", "de-grad", "mol-lr", "mol-sn"):
        cost(method)
