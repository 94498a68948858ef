"""The tokens of a thread: who listens to which, what looks at them, and what is never left half done."""

import threading

import numpy as np
import pytest
import torch

from napari_unroll.errors import Cancelled, FinishNow
from napari_unroll.events import Progress, Stop
from napari_unroll.interrupt import check, interruptible, listening, shielded, stage, stepwise
from napari_unroll.scan.resample import resized
from napari_unroll.scan.smoothing import smoothed
from tests.stops import Tripping


def asked(how: str = "cancel") -> Stop:
    stop = Stop()
    getattr(stop, how)()
    return stop


def drained(work):
    """Events and returned value of a generator."""
    events = []
    while True:
        try:
            events.append(next(work))
        except StopIteration as end:
            return events, end.value


def test_nobody_is_stopped_where_nobody_asked():
    check()
    with listening(Stop()):
        check()


@pytest.mark.parametrize(("how", "error"), [("cancel", Cancelled), ("finish", FinishNow)])
def test_the_token_of_the_block_counts_and_no_longer(how, error):
    with pytest.raises(error), listening(asked(how)):
        check()
    check()


def test_outer_tokens_count_inside():
    with pytest.raises(Cancelled), listening(asked()), listening(Stop()):
        check()


def test_shielded_work_is_done_to_the_end():
    with listening(asked()), shielded():
        check()
        torch.ones(2) + 1


def test_every_call_of_torch_on_tensors_looks():
    network, x = torch.nn.Sequential(torch.nn.Conv3d(1, 2, 3), torch.nn.ReLU()), torch.ones(1, 1, 4, 4, 4)
    with listening(counter := Tripping()):
        network(x)
    assert counter.looks >= 2
    with pytest.raises(Cancelled), listening(Tripping(2)):
        network(x)
    assert torch.isfinite(network(x)).all()


def test_gradients_are_switched_on_again_after_an_interrupted_block():
    with pytest.raises(Cancelled), listening(Tripping(1)), torch.no_grad():
        torch.ones(2).sum()
    assert torch.is_grad_enabled()


def test_a_generator_listens_while_it_computes_and_its_listener_does_not():
    def work():
        for k in range(3):
            check()
            yield Progress(k, 3)
        return "done"

    stop = Stop()
    steps = interruptible(work(), stop)
    assert next(steps) == Progress(0, 3)
    stop.cancel()
    check()
    with pytest.raises(Cancelled):
        next(steps)
    assert drained(interruptible(work(), Stop())) == ([Progress(k, 3) for k in range(3)], "done")


def test_a_closed_generator_closes_its_work():
    closed = []

    def work():
        try:
            yield Progress(0, 1)
        finally:
            closed.append(True)

    steps = interruptible(work(), Stop())
    next(steps)
    steps.close()
    assert closed == [True]


def loop(n: int, text: str = "") -> int:
    with stage(n, text) as done:
        for k in range(n):
            done(k)
            with stage(2) as inner:
                inner(0)
    return n


def test_a_plain_function_tells_how_far_it_is_by_its_outermost_loop():
    events, value = drained(stepwise(lambda: loop(3), "counting"))
    assert value == 3
    steps = [Progress(k, 3, "counting") for k in range(3)]
    assert events == [Progress(0, 1, "counting"), *steps, Progress(1, 1, "counting")]
    events, _ = drained(stepwise(lambda: loop(1, "its own words"), "counting"))
    assert events[-1].text == "its own words"
    assert loop(2) == 2


def test_its_errors_are_those_of_the_function():
    with pytest.raises(ZeroDivisionError):
        drained(stepwise(lambda: 1 / 0))


def test_it_listens_to_the_same_tokens_in_its_thread_torch_included():
    with pytest.raises(Cancelled), listening(Tripping(2)):
        drained(stepwise(lambda: [torch.ones(2) + 1 for _ in range(1_000_000)]))


def test_closed_early_it_leaves_no_thread():
    before = threading.active_count()
    steps = stepwise(lambda: loop(10**9))
    next(steps)
    next(steps)
    steps.close()
    assert threading.active_count() == before


def test_smoothing_in_parts_is_the_filter_of_scipy():
    from scipy.ndimage import gaussian_filter

    volume = np.random.default_rng(0).random((9, 20, 14), dtype=np.float32)
    np.testing.assert_allclose(smoothed(volume, 2.3), gaussian_filter(volume, 2.3), rtol=1e-5)
    with pytest.raises(Cancelled), listening(Tripping(2)):
        smoothed(volume, 2.3)


@pytest.mark.parametrize("kind", [np.float32, np.complex64])
def test_resizing_in_parts_is_interpolation_between_centres(kind, monkeypatch):
    monkeypatch.setattr("napari_unroll.scan.resample.PART", 300)
    ramp = np.broadcast_to(np.arange(8, dtype=kind)[:, None, None], (8, 4, 4))
    larger = resized(ramp, (16, 8, 8))
    centres = (np.arange(16) + 0.5) / 2 - 0.5
    np.testing.assert_allclose(larger[:, 3, 5].real, centres.clip(0, 7), atol=1e-6)
