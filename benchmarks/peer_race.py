"""Races between the contestants of peers.py and gpu.py, each in a process of its own, asked over a pipe.

The thread pools of two libraries in one process spin against each other, and some settle their threads at start-up; in
processes of their own they sleep while another is measured. One that crashes, or waits for ever, takes no other with
it. A request and its answer are a line of JSON each::

    {"prepare": task}  ->  {"result": what all contestants must agree on, "units": of work in a sample}
    {"measure": units} ->  {"seconds": that they took}, after {"warm": units} that do not count

or {"error": a sentence}, {"absent": why}, {"skip": why} in place of an answer.
"""

from __future__ import annotations

import collections
import contextlib
import json
import math
import os
import queue
import statistics
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

import numpy as np

from benchmarks import gpu_workers, peer_workers
from benchmarks.peer_workers import fma_rate, seconds

ROOT = Path(__file__).resolve().parent.parent
CONTESTANTS = peer_workers.PEERS | gpu_workers.PEERS
SAMPLE = 0.04  # seconds of work in one sample
PAUSE = 0.15  # seconds after a sample, in which the threads of the last contestant stop to spin: OpenBLAS, after 0.1 s
LOOK = 0.2  # seconds between looks at what other processes do
UNITS = 2**17  # of multiply-adds in registers, some 0.4 ms of them, to see whether cores are whole
WHOLE = 0.8  # of the rate of a core alone
QUIET = 0.15  # cores that other processes may use in a round
START, PREPARE, MEASURE = 120, 300, 120  # seconds to wait for an answer
LEAST = 5  # the same after the deadline
END = 10  # seconds to wait for a process to end
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


# -- the process of a contestant


def units_of_sample(run, least, sample):
    """Units of work that take about so many seconds, `least` or more."""
    run(least)  # the first run may compile and start threads
    units = least
    while (took := seconds(run, units)) < sample / 2:
        units = int(units * min(100, max(2, 0.8 * sample / max(took, 1e-9))))
    return max(least, round(units * sample / took))


def prepare(peer, contestant, task):
    """run(units) for a task, None if there is nothing to measure, and the answer to give."""
    arrays = {}
    if "arrays" in task:
        with np.load(task["arrays"]) as file:
            arrays = dict(file)
    run, result = getattr(contestant, task["kind"])(task, arrays)
    least, sample = task.get("least", {}).get(peer, 1), task.get("sample", SAMPLE)
    return run, {"result": result, "units": units_of_sample(run, least, sample) if run else 0}


def answers(peer, threads, requests):
    """First who the contestant is, then an answer to each request."""
    run = None
    try:
        contestant = CONTESTANTS[peer](threads)
        yield {"versions": [f"{name} {metadata.version(name)}" for name in contestant.packages]}
    except ModuleNotFoundError as problem:
        yield {"absent": f"{peer} is not compared: {problem.name} is not installed"}
        return
    except NotImplementedError as problem:
        yield {"absent": f"{peer} is not compared: {problem}"}
        return
    for request in requests:
        try:
            if "prepare" in request:
                run = None  # frees the last task's memory first
                run, answer = prepare(peer, contestant, request["prepare"])
            else:
                if "warm" in request:
                    run(request["warm"])
                answer = {"seconds": seconds(run, request["measure"])}
        except NotImplementedError as problem:
            answer = {"skip": str(problem)}
        except Exception as problem:  # told in one line, whatever a peer came upon
            answer = {"error": f"{type(problem).__name__}: {problem}".splitlines()[0]}
        yield answer


def main():
    """Answer requests from standard input: python -m benchmarks.peer_race PEER THREADS."""
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints goes to the errors, not among the answers
    for answer in answers(sys.argv[1], int(sys.argv[2]), map(json.loads, sys.stdin)):
        print(json.dumps(answer), file=channel, flush=True)


# -- asking it


class Worker:
    """A contestant's process, started when it is first asked, and again after it has failed.

    threads: of the CPU; 0 leaves them to the library.
    """

    def __init__(self, peer, threads):
        self.peer, self.threads = peer, threads
        self.process = self.status = self.absent = None
        self.greeted = False
        self.versions = []

    def __str__(self):
        return f"{self.peer} on {self.threads} thread{'s' * (self.threads > 1)}" if self.threads else self.peer

    def ask(self, patience, **request):
        """The answer to a request; {"error": ...} from a process that dies or is silent for `patience` seconds."""
        self.greet(patience)
        if self.absent:
            return {"absent": self.absent}
        with contextlib.suppress(OSError):  # if it has died, what it said last is the answer
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        return self._answer(patience)

    def start(self):
        """Start the process, unless it runs or never will; nobody waits for it."""
        if self.process is None and not self.absent:
            self.greeted = False
            self._start()

    def greet(self, patience):
        """Start the process, and hear who it is or why it is absent."""
        self.start()
        if self.greeted or self.absent:
            return
        hello, self.greeted = self._answer(min(START, patience)), True
        if "versions" in hello:
            self.versions = hello["versions"]
        else:
            self.absent = hello.get("absent") or f"{self} does not start: {hello['error']}"
            self.close()

    def _start(self):
        environment = os.environ | (dict.fromkeys(THREADS, str(self.threads)) if self.threads else {})
        command = [sys.executable, "-m", "benchmarks.peer_race", self.peer, str(self.threads)]
        self.lines, self.said = queue.Queue(), collections.deque(maxlen=1)
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=ROOT,
        )
        self.ears = [
            threading.Thread(target=self._read, args=(self.process.stdout, self.lines), daemon=True),
            threading.Thread(target=self._listen, args=(self.process.stderr, self.said), daemon=True),
        ]
        for ear in self.ears:
            ear.start()

    @staticmethod
    def _read(stream, lines):
        with stream:
            for line in stream:
                lines.put(json.loads(line))
        lines.put(None)

    @staticmethod
    def _listen(stream, said):
        with stream:
            said.extend(line.strip() for line in stream if line.strip())

    def _answer(self, patience):
        try:
            answer = self.lines.get(timeout=patience)
        except queue.Empty:
            self.close()
            return {"error": f"no answer within {patience:.0f} s", "silent": True}
        if answer is None:
            self.close()
            answer = {"error": self.said[-1] if self.said else f"ended with status {self.status}"}
        return answer

    def close(self):
        """End the process."""
        if self.process:
            self.process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):  # the driver may hold on to one that hangs on a GPU
                self.status = self.process.wait(END)
            with contextlib.suppress(OSError):
                self.process.stdin.close()
            for ear in self.ears:
                ear.join(timeout=1)
            self.process = None


# -- the race


class Cores:
    """Whether each core has a real one to itself: virtual ones may be two halves of one for seconds at a time."""

    def __init__(self, count):
        self.run, _ = fma_rate()
        self.run(1)  # compiles
        self.alone = min(seconds(self.run, UNITS) for _ in range(50))
        self.threads, self.start = ThreadPoolExecutor(count), threading.Barrier(count)
        self.count = count

    def whole(self):
        """Do all cores at once compute about as fast as one alone?"""
        return self.alone > WHOLE * max(self.threads.map(self._together, range(self.count)))

    def _together(self, _):
        self.start.wait()
        return seconds(self.run, UNITS)


def used_by_others(pids):
    """CPU seconds that all processes but these have used since the machine started; 0 where the system hides it."""
    try:
        ticks = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
        used = sum(int(ticks[index]) for index in (0, 1, 2, 5, 6, 7))  # all but idle, waiting and guests
        for pid in pids:
            own = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            used -= int(own[11]) + int(own[12])
    except OSError:
        return 0.0
    return used / os.sysconf("SC_CLK_TCK")


@dataclass
class Field:
    """All contestants, for how long they race, and what is to be said about it.

    budget: seconds of measuring for each contestant in a race. patience: seconds that may be spent, over all races, on
    waiting for other processes to rest and on rounds that they disturbed. least: rounds, fewer if the deadline comes.
    """

    budget: float
    patience: float
    least: int = 5
    cores: Cores | None = None  # samples are taken when they are whole
    pause: float = PAUSE
    warm: float = 0.0  # part of a sample that a contestant does before it: clocks rise, a GPU changes hands
    limits: tuple = (PREPARE, MEASURE)  # seconds to wait for an answer
    deadline: float | None = None  # of time.perf_counter; who gave no answer once is not asked again then
    workers: dict = field(default_factory=dict)
    notes: list = field(default_factory=list)
    disturbed: dict = field(default_factory=dict)  # by task: cores that others used in the worst round that counts

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        for worker in self.workers.values():
            worker.close()

    def worker(self, peer, threads):
        """The one worker of a peer and number of threads."""
        return self.workers.setdefault((peer, threads), Worker(peer, threads))

    def marked(self, task):
        """The name of a task, with a star if other processes disturbed rounds that count."""
        return task["name"] + " *" * (self.disturbed.get(task["name"], 0.0) >= QUIET)

    def note(self, text):
        """Say it below the tables, once."""
        if text not in self.notes:
            self.notes.append(text)

    def race(self, task, workers):
        """Median seconds a unit of each worker that can do the task, and their results: ({worker: ...}, {...})."""
        self._wait_for_quiet()  # those who try what is fastest do it when they prepare
        units, results = {}, {}
        for worker in workers:
            answer = self.prepared(worker, task)
            if "units" in answer:
                units[worker], results[worker] = answer["units"], answer["result"]
        rounds = self._rounds(task, units) if units else []
        times = {worker: statistics.median(times[worker] for times in rounds) for worker in units}
        return times, results

    def greet(self, workers):
        """Start workers, all at the same time, and hear who they are."""
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.greet(self.limits[0])
            if worker.absent:
                self.note(f"{worker.absent}.")

    def prepared(self, worker, task):
        """A worker's answer to the request to prepare for a task."""
        if self._left() <= 0:
            self.note(f"{task['name']}: no time was left.")
            return {}
        return self._asked(worker, task, self.limits[0], prepare=task)

    def _measured(self, worker, task, units):
        warm = {"warm": math.ceil(self.warm * units)} if self.warm else {}
        return self._asked(worker, task, self.limits[1], measure=units, **warm)

    def _asked(self, worker, task, limit, **request):
        patience = min(limit, max(LEAST, self._left()))
        answer = worker.ask(patience, **request)
        if "silent" in answer and patience == limit and self.deadline is not None:
            worker.absent = f"{worker} is left out since {task['name']}, where it gave no answer"
        if "error" in answer and self.deadline is not None:
            worker.close()  # an error on a GPU stays with its process
        self._complain(worker, task, answer)
        return answer

    def _left(self):
        """Seconds until the deadline."""
        return math.inf if self.deadline is None else self.deadline - time.perf_counter()

    def _rounds(self, task, units):
        """Seconds a unit of each worker, round by round: the quietest rounds of all that were run."""
        rounds, wanted = [], self.least
        while len(rounds) < wanted or (sum(others < QUIET for others, *_ in rounds) < wanted and self.patience > 0):
            if rounds and self._left() <= 0:
                break
            if rounds and rounds[-1][0] >= QUIET:
                self.patience -= rounds[-1][2]
                self._wait_for_quiet()
            began, times = time.perf_counter(), {}
            others = used_by_others(self._pids())
            for worker in list(units):
                self._wait_for_cores()
                answer = self._measured(worker, task, units[worker])
                if "seconds" in answer:
                    times[worker] = answer["seconds"] / units[worker]
                else:
                    del units[worker]
                time.sleep(self.pause)
            if not units:
                return []
            took = time.perf_counter() - began
            rounds.append(((used_by_others(self._pids()) - others) / took, times, took))
            if len(rounds) == 1:
                wanted = max(self.least, math.ceil(self.budget * len(units) / took))
        rounds = sorted(rounds, key=lambda entry: entry[0])[:wanted]
        self.disturbed[task["name"]] = max(rounds[-1][0], self.disturbed.get(task["name"], 0.0))
        return [times for _, times, _ in rounds]

    def _pids(self):
        return [os.getpid(), *(worker.process.pid for worker in self.workers.values() if worker.process)]

    def _wait_for_quiet(self):
        """Wait for other processes to rest, while there is patience."""
        while self.patience > 0:
            used, began = used_by_others(self._pids()), time.perf_counter()
            time.sleep(LOOK)
            took = time.perf_counter() - began
            self.patience -= took
            if (used_by_others(self._pids()) - used) / took < QUIET:
                return

    def _wait_for_cores(self):
        """Wait until the cores are whole, while there is patience."""
        began = time.perf_counter()
        while self.cores and self.patience > 0 and not self.cores.whole():
            time.sleep(0.01)
            self.patience -= time.perf_counter() - began
            began = time.perf_counter()

    def _complain(self, worker, task, answer):
        if "absent" in answer:
            self.note(f"{answer['absent']}.")
        elif "error" in answer:
            self.note(f"{worker}, {task['name']}: {answer['error']}")


if __name__ == "__main__":
    main()
