"""The time of a run: before it from earlier runs, while it goes on over all stages, and labels that do not flicker."""

import itertools

import numpy as np
import pytest

from napari_unroll.events import Finished, Forecast, IterationDone, Progress
from napari_unroll.pipeline import times
from napari_unroll.pipeline.forecast import Forecaster
from napari_unroll.pipeline.plan import Choices, resolve
from napari_unroll.pipeline.run import run
from napari_unroll.pipeline.times import FIT, Counted, Expected, StageTime
from tests.methods import tiny


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_UNROLL_CACHE", str(tmp_path))


class Clock:
    """Seconds that a test sets."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def told(expected, script):
    """(seconds, event) pairs seen; the forecasts as (seconds, forecast)."""
    clock = Clock()
    forecaster = Forecaster(expected, clock)
    found = []
    for now, event in script:
        clock.now = now
        forecast = forecaster.see(event)
        if forecast is not None:
            found.append((now, forecast))
    return forecaster, found


def two_stages(pace=1.0, cut=20):
    """A start of 60 steps, its iterates shown now and then, then 5 iterations of 4 patches; quick reconstruction before both."""
    now = 1.0 * pace
    yield now, Progress(0, 1, "quick reconstruction")
    now += pace
    yield now, Progress(1, 1, "quick reconstruction")
    for k in range(1, 61):
        now += 0.1 * pace
        yield now, IterationDone(k, 60, values=np.zeros(1)) if k % 10 == 0 else Progress(k, 60, "first estimate")
    for k in range(5):
        for j in range(1, 5):
            now += pace
            yield now, Progress(4 * k + j, cut, f"iteration {k + 1} of 5")
        yield now, IterationDone(k + 1, 5)


def stages(**seconds):
    return tuple(StageTime(name=name.replace("_", " "), seconds=s) for name, s in seconds.items())


PASSES = StageTime(name="iteration # of #", seconds=20.0)
SECONDS = Expected(28.0, (*stages(start=1.0, quick_reconstruction=1.0, first_estimate=6.0), PASSES))


@pytest.mark.parametrize("pace", [0.5, 1.0, 3.0])
def test_the_time_left_is_that_of_all_stages(pace):
    _, found = told(SECONDS, two_stages(pace))
    end = found[-1][0]
    late = [(now, f) for now, f in found if 0.15 * end < now < 0.95 * end]
    for now, forecast in late:
        assert abs(forecast.left_s - (end - now)) < 0.3 * (end - now) + 0.3
    shares = [f.share for _, f in found]
    assert shares[-1] > 0.95
    assert found[0][1].left_s == pytest.approx(27.0, rel=0.1) if pace == 1.0 else True


def test_labels_are_stages_and_do_not_go_back_and_forth():
    forecaster, found = told(SECONDS, two_stages())
    labels = [f.text.split(" of ")[0].rstrip("0123456789 ") for _, f in found]
    changes = [a for a, b in itertools.pairwise(labels) if a != b]
    assert changes == ["quick reconstruction", "first estimate"]
    assert [s.name for s in forecaster.took()] == [s.name for s in SECONDS.stages]
    assert [s.seconds for s in forecaster.took()] == pytest.approx([s.seconds for s in SECONDS.stages], abs=1.01)


def uneven(pace=1.0):
    """Four quick steps and a long wait for the first pass of the next stage, whose eight steps take longer and longer."""
    now = 0.0
    for k in range(5):
        now += 0.25 * pace
        yield now, Progress(k, 4, "quick reconstruction")
    now += 9 * pace
    for k in range(1, 9):
        yield now, Progress(k, 8, "iteration 1 of 1")
        now += k * pace


@pytest.mark.parametrize("pace", [0.7, 1.0, 1.5])
def test_steps_that_do_not_take_equally_long_are_known_from_the_run_before(pace):
    first, _ = told(Expected(0.0), uneven())
    first.clock.now = end = 45.0
    seconds = Expected(end, first.took())
    _, found = told(seconds, uneven(pace))
    late = [(now, f.left_s) for now, f in found if now > 0.1 * end * pace]
    assert len(late) == 8
    for now, left in late:
        assert left == pytest.approx(end * pace - now, rel=0.3, abs=1.0)


def test_what_is_left_counts_down_while_a_step_takes_long():
    script = [(0.0, Progress(0, 4, "solving")), *((2.0 + 0.5 * k, Progress(1, 4, "solving")) for k in range(5))]
    _, found = told(Expected(12.0, stages(start=0.0, solving=12.0)), script)
    assert [a[1].left_s - b[1].left_s for a, b in itertools.pairwise(found[1:])] == pytest.approx([0.5] * 4)


def test_iterations_follow_a_stage_that_is_complete():
    script = [(1.0, Progress(20, 20, "measuring the norm")), *((1.0 + k, IterationDone(k, 100)) for k in range(1, 36))]
    forecaster, found = told(Expected(0.0), script)
    assert found[-1][1].text == "iteration 35 of 100"
    last = forecaster.took()[-1]
    assert (last.name, last.seconds, last.share) == ("iterations", 34.0, 0.35)
    assert found[-1][1].left_s == pytest.approx(34 * 65 / 35)


def test_a_method_that_ends_by_its_tolerance_is_expected_to_do_so_again():
    script = [(float(k), IterationDone(k, 100)) for k in range(1, 41)]
    _, found = told(Expected(40.0, (*stages(start=1.0), StageTime(name="iterations", seconds=39.0, share=0.4))), script)
    assert found[9][1].left_s == pytest.approx(30, rel=0.3)


def until_it_settles(n, wobble=0.0):
    """A step a second until the volume changes by less than a thousandth, which takes ``n`` steps of at most 500."""
    for k in range(1, n + 1):
        change = 10.0 ** (-3 * k / n) * (1 + wobble * (k % 2))
        yield float(k), IterationDone(k, 500, metrics={"change": change})


@pytest.mark.parametrize("n", [40, 60, 120])
def test_where_the_change_ends_the_iterations_it_tells_how_near_the_end_is(n):
    before, _ = told(SECONDS, until_it_settles(60, wobble=0.5))
    expected = Expected(60.0, before.took())
    assert len(expected.stages[-1].changes) > 1
    _, found = told(expected, until_it_settles(n))
    for now, forecast in found:
        if 0.5 * n < now < 0.95 * n:
            assert forecast.left_s == pytest.approx(n - now, rel=0.3, abs=1.5)


def test_few_steps_and_steps_that_were_all_taken_leave_no_changes():
    few, _ = told(SECONDS, until_it_settles(9))
    every, _ = told(SECONDS, [(float(k), IterationDone(k, 60, metrics={"change": 1 / k})) for k in range(1, 61)])
    assert few.took()[-1].changes == every.took()[-1].changes == ()


def test_the_same_stage_twice_is_told_apart():
    script = [(1.0, Progress(0, 2, "solving")), (2.0, Progress(2, 2, "solving")), (3.0, Progress(0, 2, "solving"))]
    forecaster, _ = told(Expected(0.0), script)
    assert [s.name for s in forecaster.took()] == ["start", "solving", "solving (2)"]


def made(scan, **choices):
    return resolve(Choices(device="cpu", **choices), scan)


def finished(plan, scan):
    *events, end = run(plan, scan)
    assert isinstance(end, Finished)
    return events


def test_a_run_calibrates_its_method_for_the_next_one_of_any_size():
    scan = tiny.cone()
    first = made(scan, method="cgls", params={"n_iterations": 4})
    assert "never run here" in first.expected.text
    assert first.facts["time"] == first.expected.text
    events = finished(first, scan)
    assert any(isinstance(event, Forecast) for event in events)
    again = made(scan, method="cgls", params={"n_iterations": 4})
    assert again.expected.stages
    assert "never" not in again.expected.text
    larger = made(scan.with_grid(scan.grid.resample((40, 40, 40))), method="cgls", params={"n_iterations": 40})
    assert larger.expected.seconds > again.expected.seconds
    assert "never" in made(scan, method="sirt").expected.text


def test_a_run_that_was_not_completed_tells_nothing():
    scan = tiny.cone()
    plan = made(scan, method="cgls", params={"n_iterations": 4})
    next(run(plan, scan))
    assert not made(scan, method="cgls").expected.stages


def test_the_fit_counts_once_per_scan():
    scan, other = tiny.cone(), tiny.cone(18)
    work = Counted(2.0, 1.0)
    took = (*stages(start=1.0), StageTime(name=FIT, seconds=5.0), *stages(iterations=2.0))
    times.remember("a", scan, "cpu", False, work, took)
    assert times.expected("a", scan, "cpu", False, work).seconds == pytest.approx(3.0)
    assert times.expected("a", other, "cpu", False, work).seconds == pytest.approx(8.0)
    assert times.expected("a", other, "cpu", False, work).without_fit().seconds == pytest.approx(3.0)
    assert times.expected("a", other, "cpu", False, Counted(4.0, 2.0)).seconds == pytest.approx(16.0)


def test_a_fit_that_nobody_timed_is_taken_out_too_where_it_is_there():
    guess = times.expected("a", tiny.cone(), "cpu", False, Counted(2.0, 1.0))
    assert guess.seconds == pytest.approx(3.0)
    assert guess.without_fit().seconds == pytest.approx(2.0)


def test_two_sizes_say_how_the_stages_grow():
    scan = tiny.cone()
    for work, iterations in ((1.0, 2.0), (4.0, 16.0)):
        times.remember("a", scan, "cpu", False, Counted(work), stages(start=3.0, iterations=iterations))
    there = times.expected("a", scan, "cpu", False, Counted(16.0)).stages
    assert [s.seconds for s in there] == pytest.approx([3.0, 16.0 * 4**1.5])


def test_of_a_method_known_at_one_size_the_others_say_how_it_grows():
    scan = tiny.cone()
    times.remember("b", scan, "cpu", False, Counted(1.0), stages(iterations=2.0))
    assert times.expected("b", scan, "cpu", False, Counted(16.0)).seconds == pytest.approx(32.0)
    for work, seconds in ((1.0, 3.0), (4.0, 6.0)):
        times.remember("a", scan, "cpu", False, Counted(work), stages(iterations=seconds))
    assert times.expected("b", scan, "cpu", False, Counted(16.0)).seconds == pytest.approx(8.0)
    assert times.expected("b", scan, "cuda:0", False, Counted(16.0)).seconds > 8.0


def iterated(n, taken, each=0.01, once=0.3, after=0.1):
    """A run of ``n`` iterations of which so many were ``taken``, the first one within what is done once; its stages."""
    script = [(once + each * k, IterationDone(k, n)) for k in range(1, taken + 1)]
    forecaster, _ = told(Expected(0.0), script)
    forecaster.clock.now = script[-1][0] + after
    return forecaster.took()


def counted(n):
    return Counted(0.35, each_s=0.002, n_iterations=n)


def test_what_is_done_once_does_not_hide_the_iterations():
    scan = tiny.cone()
    times.remember("a", scan, "cpu", False, counted(2), iterated(2, 2))
    assert times.expected("a", scan, "cpu", False, counted(2)).seconds == pytest.approx(0.42)
    many = times.expected("a", scan, "cpu", False, counted(10_000))
    assert many.seconds == pytest.approx(0.4 + 100, rel=0.01)
    clock = Clock()
    forecaster = Forecaster(many, clock)
    for k in range(1, 3001):
        clock.now = 0.3 + 0.01 * k
        forecast = forecaster.see(IterationDone(k, 10_000))
    assert forecast.left_s == pytest.approx(70, rel=0.05)


def test_iterations_that_ended_early_do_so_again_whatever_their_largest_number():
    scan = tiny.cone()
    times.remember("a", scan, "cpu", False, counted(1000), iterated(1000, 50))
    (start, iterations) = times.expected("a", scan, "cpu", False, counted(4000)).stages
    assert start.seconds + iterations.seconds == pytest.approx(0.3 + 0.5 + 0.1)
    assert iterations.share == pytest.approx(50 / 4000)
    fewer = times.expected("a", scan, "cpu", False, counted(20))
    assert fewer.seconds == pytest.approx(0.3 + 0.2 + 0.1)


def test_of_a_single_iteration_nothing_is_known_of_many():
    scan = tiny.cone()
    times.remember("a", scan, "cpu", False, counted(1), iterated(1, 1))
    assert times.expected("a", scan, "cpu", False, counted(1)).stages
    assert not times.expected("a", scan, "cpu", False, counted(100)).stages


def test_a_damaged_file_is_no_obstacle(tmp_path):
    scan = tiny.cone()
    key = times._key("cgls", scan, "cpu", False)
    for text in ("{", "[]", f'{{"{key}": [{{"counted": "x"}}]}}', '{"a": 3}'):
        (tmp_path / "times.json").write_text(text)
        plan = made(scan, method="cgls", params={"n_iterations": 2})
        assert plan.expected.seconds > 0
        assert finished(plan, scan)
        assert "never" not in made(scan, method="cgls", params={"n_iterations": 2}).expected.text
