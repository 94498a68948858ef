"""What a run holds on its device is given back within 2 s, however it ends: finished, finished early, cancelled, failed."""

import gc
import logging
import threading

import pytest
import torch

from napari_unroll.events import IterationDone, Outcome
from napari_unroll.gui import demo
from napari_unroll.methods import registry
from napari_unroll.methods.problem import Method, MethodParams
from tests.gui.conftest import TIMEOUT_MS

N_BYTES, SMALL = 2**26, 2**20
WITHIN_MS = 2000
GATE = threading.Event()


class Holding(MethodParams):
    """No choices."""


def holding(fails):
    """A method that holds much; it ends after its second step, or fails there, unless it is stopped before."""

    def solve(problem, params):
        much = torch.zeros(N_BYTES // 4, device=problem.physics.device)
        problem.estimate.keep(problem.zeros()[0, 0] + 1)
        yield IterationDone(1, 2, residual=float(much[0]) + 0.1)
        GATE.wait(30)
        yield IterationDone(2, 2, residual=float(much[0]) + 0.1)
        if fails:
            raise RuntimeError("the device broke")
        return problem.zeros()[0, 0] + 1

    return Method(name="holds", title="h", summary="h", source="none", params=Holding, solve=solve)


def held(device):
    """Bytes in tensors that somebody holds."""
    if device == "cuda":
        return torch.cuda.memory_allocated()
    storages = [t.untyped_storage() for t in gc.get_objects() if type(t) in (torch.Tensor, torch.nn.Parameter)]
    return sum({s.data_ptr(): s.nbytes() for s in storages}.values())


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
@pytest.mark.parametrize("end", [Outcome.COMPLETED, Outcome.FINISHED_EARLY, Outcome.CANCELLED, Outcome.FAILED])
def test_memory_is_back_within_two_seconds(viewer, qtbot, cone_scan, monkeypatch, device, end):
    GATE.clear()
    monkeypatch.setattr(logging.getLogger("napari_unroll"), "propagate", False)  # pytest keeps records and their frames
    monkeypatch.setitem(registry.METHODS, "holds", holding(end is Outcome.FAILED))
    dock = demo.open_docks(viewer).reconstruct
    dock.session.set_scan(cone_scan)
    dock.choose("holds")
    dock.settings.fields["device"].value = device
    before = held(device)
    dock.run_button.click()
    run, ended = dock.session.runner.run, []
    run.finished.connect(ended.append)
    with qtbot.waitSignal(run.event, timeout=TIMEOUT_MS, check_params_cb=lambda e: isinstance(e, IterationDone)):
        pass
    assert held(device) >= before + N_BYTES
    if end is Outcome.FINISHED_EARLY:
        dock.finish_button.click()
    if end is Outcome.CANCELLED:
        dock.cancel_button.click()
    GATE.set()
    qtbot.waitUntil(lambda: bool(ended), timeout=TIMEOUT_MS)
    assert ended[0].outcome is end, ended[0].advice
    qtbot.waitUntil(lambda: held(device) < before + SMALL, timeout=WITHIN_MS)
