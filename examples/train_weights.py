"""Train the networks that the package ships: cone beam (30, 50, 100 views) or multi-coil MRI (R = 5, 10).

    python examples/train_weights.py cone-beam --out trained --minutes 60
    python examples/train_weights.py multi-coil --out trained --minutes 60

Samples are built once in the folder and reused; a killed run goes on where it stopped. ``--initial`` starts from the prior of
another checkpoint.
"""

from __future__ import annotations

import argparse
import itertools
import time
from pathlib import Path

import torch

from napari_unroll.events import IterationDone, Progress
from napari_unroll.methods.networks.prior import PriorConfig
from napari_unroll.methods.unrolled.checkpoint import find, load_network
from napari_unroll.methods.unrolled.network import UnrolledConfig, UnrolledPGD
from napari_unroll.training.protocols import ConeBeamProtocol, MultiCoilProtocol, build
from napari_unroll.training.samples import PatchSampler, SampleStore
from napari_unroll.training.trainer import Trainer, TrainOptions

START_ITERATIONS = 20
SETUPS = {
    "cone-beam": (
        UnrolledConfig(n_iterations=3, preconditioner=0.2, start_iterations=START_ITERATIONS),
        [ConeBeamProtocol(n_views=n) for n in (30, 50, 100)],
        TrainOptions(batch_size=1, patch_size=(48, 48, 48), learning_rate=6e-4, auxiliary=0.2, precision="bfloat16"),
    ),
    "multi-coil": (
        UnrolledConfig(
            prior=PriorConfig(complex_valued=True),
            n_iterations=3,
            preconditioner=None,
            start_iterations=START_ITERATIONS,
        ),
        [MultiCoilProtocol(acceleration=r, setup_seed=s) for s, r in zip(range(8), itertools.cycle((5, 10)))],
        TrainOptions(batch_size=2, patch_size=(8, 96, 96), learning_rate=1e-3, auxiliary=0.2),
    ),
}


def samples(task: str, folder: Path, n_objects: int) -> SampleStore:
    """The samples in ``folder``, built where there are none: every object for CT, a few per coil set for MRI."""
    config, protocols, _ = SETUPS[task]
    store = SampleStore(folder)
    if len(store):
        return store
    groups = [(protocols, range(2000, 2000 + n_objects))]
    if task == "multi-coil":
        per_setup = -(-n_objects // len(protocols))
        groups = [([p], range(1000 + i * per_setup, 1000 + (i + 1) * per_setup)) for i, p in enumerate(protocols)]
    for chosen, seeds in groups:
        for event in build(store, chosen, list(seeds), config):
            if isinstance(event, Progress):
                print(f"{event.step}/{event.n_steps} {event.text}", flush=True)
    return store


def main() -> None:
    """Read the choices, build, train, and print the losses."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=SETUPS)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--objects", type=int, default=48)
    parser.add_argument("--initial", help="name or path of weights whose prior to start from")
    parser.add_argument("--device", default="cpu")
    choices = parser.parse_args()
    torch.set_flush_denormal(True)
    config, _, options = SETUPS[choices.task]
    store = samples(choices.task, choices.out / choices.task, choices.objects)
    loaded = [store.load(i) for i in range(len(store))]
    options = options.model_copy(update={"n_steps": 10**6, "max_seconds": 60 * choices.minutes, "validate_every": 300})
    initial = None
    if choices.initial:
        initial = UnrolledPGD(config)
        initial.prior.load_state_dict(load_network(find(choices.initial).path).prior.state_dict())
    trainer = Trainer(
        config,
        PatchSampler(loaded, options.patch_size, options.seed),
        store.protocols(),
        options,
        state_file=choices.out / f"{choices.task}.state",
        device=choices.device,
        initial=initial,
    )
    begin = time.monotonic()
    for event in trainer.run():
        if isinstance(event, IterationDone):
            print(f"{time.monotonic() - begin:.0f} s, step {event.iteration}: {dict(event.metrics)}", flush=True)


if __name__ == "__main__":
    main()
