"""How many batches to run before looking up again, and on one thread or several: by what it took lately.

Which is faster cannot be planned. With a free core two threads halve a step of 400 us; with a busy neighbour the same
step takes 7 ms, because workers wait for the slowest. Both give the same bits, so whichever was faster is taken, and
the other is tried again now and then.
"""

from __future__ import annotations

SLICE = 0.1  # seconds of compiled work between two looks at Python: a signal waits no longer, the bar moves
TRIAL = 1e-3  # seconds of serial work of a trial: a call in parallel costs 10 to 60 us more, for threads that sleep
TRIALS = 3  # by which a way of running is judged
HOPELESS = 2  # times as long as on one thread: a second trial in parallel is the last then; the first starts threads
AGAIN = 20  # slices until the slower way is tried again: about 2 seconds
SOON = 4  # the same where it is not much slower, for then a trial costs little
WAKING = 10e-3  # seconds that one slice in parallel may lose: threads that slept need 5 ms, then the next is fast again
WORTH = 2e-3  # seconds of serial work left for which threads are tried: they must start, once even be compiled for
CLOSE = 1.5  # times as long is not much slower: two virtual cores may be one real core for a while
# Multiply-adds from which several threads are tried, about 7 us of work: below that they never gain. (64-64-10 with 32
# rows, 320,000: 7.1 us a step on 2 cores, 8.4 on one; 32-32-32-10, 98,000: 6.7 and 5.7.)
PARALLEL_COST = 300_000


class Pace:
    """Seconds a batch takes, serially and in parallel, and what to run next.

    cost: multiply-adds of a batch. independent: may batches be computed in any order? Then a thread takes whole ones.
    """

    def __init__(self, cost, independent=False):
        self.cost, self.independent = cost, independent
        self.may_parallel = independent or cost >= PARALLEL_COST
        self.seconds = {False: None, True: None}
        self._trials = {False: 0, True: 0 if self.may_parallel else TRIALS}
        self._slices = 0
        self._forgiven = False

    def next(self, left):
        """(parallel, batches) of the next slice, with `left` batches to go."""
        if self.independent and left * self.cost < PARALLEL_COST:
            return False, left
        for parallel in (False, True):
            if self._trials[parallel] < TRIALS and (not parallel or left * self.seconds[False] >= WORTH):
                return parallel, min(left, self._enough_for_a_trial())
        parallel = self.faster
        return parallel, int(min(left, max(1, SLICE / max(self.seconds[parallel], 1e-9))))

    def _enough_for_a_trial(self):
        serial = self.seconds[False]
        return 1 if serial is None else max(1, int(TRIAL / max(serial, 1e-9)))

    @property
    def faster(self):
        """Is parallel the faster way, as far as is known?"""
        return None not in self.seconds.values() and self.seconds[True] < self.seconds[False]

    @property
    def _close(self):
        """Do both ways take about as long?"""
        return None not in self.seconds.values() and max(self.seconds.values()) < CLOSE * min(self.seconds.values())

    @property
    def _hopeless(self):
        serial, parallel = self.seconds[False], self.seconds[True]
        return serial is not None and parallel is not None and parallel > HOPELESS * serial

    def took(self, parallel, batches, seconds):
        """Learn what a slice took."""
        each = seconds / batches
        if self._trials[parallel] < TRIALS:
            first = self._trials[parallel] == 0
            self.seconds[parallel] = each if first else min(each, self.seconds[parallel])
            self._trials[parallel] += 1
            if parallel and not first and self._hopeless:
                self._trials[True] = TRIALS
            return
        self._slices += min(1, seconds / SLICE)  # of a short fit they are short
        lost = (seconds - self.seconds[False] * batches) if parallel and self.faster else 0
        self._forgiven = 0 < lost < WAKING and not self._forgiven
        if not self._forgiven:
            self.seconds[parallel] = each
        if self.may_parallel and self._slices >= (SOON if self._close else AGAIN):
            self._trials[not self.faster], self._slices = 0, 0
