"""Slices, and the choice between one thread and several, with made-up clocks."""

import pytest

from numbanet.pace import AGAIN, SLICE, SOON, TRIALS, Pace


def simulate(pace, batches, serial, parallel):
    """Run batches that take so many seconds each; returns the slices and the seconds all took."""
    slices, total = [], 0.0
    while batches:
        way, count = pace.next(batches)
        assert 1 <= count <= batches
        seconds = count * (parallel if way else serial)
        pace.took(way, count, seconds)
        slices.append((way, count, seconds))
        batches, total = batches - count, total + seconds
    return slices, total


@pytest.mark.parametrize("each", [1e-6, 1e-3, 0.5])
def test_slices_are_short(each):
    slices, _ = simulate(Pace(0), 100_000 if each < 0.1 else 20, each, 0)
    assert not any(way for way, _, _ in slices)
    assert all(seconds <= max(1.01 * SLICE, each) for _, _, seconds in slices)
    assert len(slices) <= TRIALS + 1 + 100_000 * each / SLICE


def test_a_slowdown_is_noticed_after_one_slice():
    pace = Pace(0)
    simulate(pace, 1000, 1e-4, 0)
    slices, _ = simulate(pace, 1000, 2e-3, 0)
    assert slices[0][2] == pytest.approx(20 * SLICE)
    assert all(seconds <= 1.01 * SLICE for _, _, seconds in slices[1:])


@pytest.mark.parametrize(("serial", "parallel"), [(1e-3, 6e-4), (1e-3, 2e-3), (4e-4, 7e-3)])
def test_the_faster_way_is_taken(serial, parallel):
    _, total = simulate(Pace(1e9), 100_000, serial, parallel)
    assert total <= 1.02 * 100_000 * min(serial, parallel)


def test_a_busy_neighbour_comes_and_goes():
    """Parallel becomes 20 times slower, then as fast as before: each change is noticed within about two seconds."""
    pace = Pace(1e9)
    simulate(pace, 10_000, 1e-3, 5e-4)
    assert pace.faster
    _, busy = simulate(pace, 10_000, 1e-3, 1e-2)
    assert not pace.faster
    assert busy <= 10 * 1.1 + 20 * SLICE
    slices, _ = simulate(pace, 10_000, 1e-3, 5e-4)
    assert pace.faster
    before = next(k for k, (way, count, _) in enumerate(slices) if way and count > 1)
    assert before <= AGAIN + 2 * TRIALS


def test_a_short_spell_of_equal_ways_is_soon_over():
    """Two virtual cores that are one real core for a while: nothing is lost then, little after it."""
    pace = Pace(1e9)
    simulate(pace, 1000, 1e-3, 5e-4)
    simulate(pace, 1000, 1e-3, 1.1e-3)
    assert not pace.faster
    slices, _ = simulate(pace, 2000, 1e-3, 5e-4)
    before = next(k for k, (way, count, _) in enumerate(slices) if way and count > 1)
    assert before <= SOON + 2 * TRIALS


def test_a_slow_first_trial_does_not_mislead():
    """Starting threads takes milliseconds once."""
    pace = Pace(1e9)
    for parallel, seconds in [(False, 1e-3)] * TRIALS + [(True, 0.7), (True, 5e-4), (True, 6e-4)]:
        assert pace.next(100) == (parallel, 1)
        pace.took(parallel, 1, seconds)
    assert pace.faster


def test_little_work_is_no_reason_to_try_threads():
    pace = Pace(1e9)
    for _ in range(100):
        slices, _ = simulate(pace, 47, 8e-6, 4e-6)
        assert not any(way for way, _, _ in slices)
    simulate(pace, 1000, 8e-6, 4e-6)
    assert pace.faster


def test_one_slice_of_waking_threads_is_forgiven():
    """Threads that slept cost 5 ms once. Short fits with pauses between them lose it each time: better stay on one."""
    pace = Pace(1e9)
    simulate(pace, 1000, 1e-3, 5e-4)
    pace.took(True, 5, 8e-3)
    assert pace.faster
    pace.took(True, 5, 3e-3)
    pace.took(True, 5, 8e-3)
    assert pace.faster
    pace.took(True, 5, 8e-3)
    assert not pace.faster
    pace = Pace(1e9)
    simulate(pace, 1000, 1e-3, 5e-4)
    pace.took(True, 5, 50e-3)  # too much for that
    assert not pace.faster


def test_short_slices_do_not_bring_more_trials():
    """15 s of fits of 3 ms each, where both ways are close: a trial every 0.4 s."""
    pace, trials = Pace(1e9), 0
    for _ in range(5000):
        slices, _ = simulate(pace, 512, 8e-6, 6e-6)
        trials += sum(not way for way, _, _ in slices)
    assert 35 * TRIALS <= trials <= 40 * TRIALS


def test_one_way_alone_is_no_comparison():
    pace = Pace(1e9)
    for _ in range(2 * AGAIN):
        pace.took(True, 1, 1e-3)
    assert not pace.faster
