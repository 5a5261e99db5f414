"""numbanet on an NVIDIA GPU, checked against the CPU and measured side by side with its peers; below 8 minutes.

    python benchmarks/gpu.py            prints the tables
    python benchmarks/gpu.py --write    writes them into README.md, between <!-- gpu --> and <!-- /gpu -->
    python benchmarks/gpu.py --quick    the same with fewer and shorter rounds

The exit status is 1 if a check fails and 2 if there is no GPU. With NUMBA_ENABLE_CUDASIM=1 all of it runs in Numba's
simulator, on tiny networks: that tests this file, its times mean nothing.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a script, this file is not in a package

import numba

from benchmarks import gpu_workers, tasks
from benchmarks.peer_race import Field
from benchmarks.tables import README, faster_peers, figure, paragraphs, place, progress, ratio, table, write
from numbanet import kernels

SIMULATED = bool(numba.config.ENABLE_CUDASIM)
WAYS = ("one kernel", "graph")  # of numbanet
ROUNDS, SAMPLE = 7, 0.1  # seconds of a sample
QUICK_ROUNDS, QUICK_SAMPLE = 3, 0.05
LIMITS = (60, 10)  # seconds to wait for who prepares (compiles), and for who measures

# Seconds of each section, below 8 minutes together with what they overrun. What one leaves over the next may use.
BUDGETS = {"checks": 120, "training": 170, "products": 60, "inference": 50, "facts": 40}

DIGITS = {"sizes": (64, 128, 10), "samples": 1437, "batch_size": 32, "epochs": 3, "optimizer": "adam"}
LARGE = {"sizes": (784, 512, 512, 10), "samples": 1000, "batch_size": 128, "epochs": 2, "optimizer": "sgd"}
TINY = {"sizes": (64, 8, 10), "samples": 18, "batch_size": 8, "epochs": 3, "optimizer": "adam"}


@dataclass(frozen=True)
class Cases:
    """What is checked and measured.

    checks: what, kind, task, how far off it may be. training: sizes, rows of a batch, steps of an epoch, how many times
    faster than eager torch it should be. products: m, k, n and the share of torch's rate it should reach. inference:
    rows of predicted (sizes), unit and how many there are in a second. phases: of a step with nothing to do.
    """

    checks: list
    training: list
    products: list
    inference: list
    predicted: tuple
    phases: int


# Targets of training: 5 for nets below 50,000 parameters and batches of 256 or less; 1 for the largest net.
FULL = Cases(
    checks=[
        ("loss of 3 epochs of digits, Adam, beside the CPU's", "losses", DIGITS, 1e-4),
        ("predictions of digits, beside the CPU's", "predictions", DIGITS, 1e-5),
        ("bits after 3 epochs of digits, one kernel and graph", "ways", DIGITS, 0),
        ("loss of 784-512-512-10, beside the CPU's", "losses", LARGE, 1e-4),
        ("predictions of 784-512-512-10, beside the CPU's", "predictions", LARGE, 1e-5),
        ("bits of 784-512-512-10, one kernel and graph", "ways", LARGE, 0),
    ],
    training=[
        ((2, 16, 16, 2), 32, 2048, 5),
        ((64, 64, 10), 32, 1024, 5),
        ((784, 128, 10), 32, 512, None),
        ((784, 128, 10), 128, 256, None),
        ((784, 512, 512, 10), 128, 128, None),
        ((784, 1024, 1024, 10), 256, 64, 1),
        ((256, 64, 64, 10), 4096, 32, None),
    ],
    products=[
        (256, 784, 1024, None),
        *((size, size, size, 0.65 if size == 2048 else None) for size in (512, 1024, 2048)),
    ],
    inference=[(1, "us", 1e6), (256, "us", 1e6), (100_000, "ms", 1e3)],
    predicted=(784, 128, 10),
    phases=16,
)
SIMULATION = Cases(
    checks=[
        ("loss of digits, beside the CPU's", "losses", TINY, 1e-4),
        ("predictions of digits, beside the CPU's", "predictions", TINY, 1e-5),
        ("bits of digits, one kernel and graph", "ways", TINY, 0),
    ],
    training=[((2, 4, 2), 4, 2, 5), ((4, 8, 3), 8, 2, None)],
    products=[(8, 20, 24, None), (16, 16, 16, 0.65)],
    inference=[(1, "us", 1e6), (9, "ms", 1e3)],
    predicted=(8, 8, 3),
    phases=2,
)


class Sections:
    """The sections, each a method that returns Markdown. `failures` collects what is not as it should be."""

    def __init__(self, cases, field, sample):
        self.cases, self.field, self.sample = cases, field, sample
        self.failures = []

    def header(self):
        """The machine, the versions and the date."""
        self.field.greet([self._worker(peer) for peer in gpu_workers.PEERS])
        answer = self._ask("one kernel", {"name": "the machine", "kind": "machine"})
        if not answer.get("result"):
            raise SystemExit(f"numbanet does not start on the GPU: {answer.get('error') or answer.get('absent')}")
        name, driver, multiprocessors = answer["result"]
        versions = dict.fromkeys(version for worker in self.field.workers.values() for version in worker.versions)
        return paragraphs(
            f"""{name}, {multiprocessors} multiprocessors, driver {driver}; Python {platform.python_version()},
            {", ".join(versions)}; {datetime.date.today()}. float32, without TF32. Medians of interleaved
            rounds, {self.field.least} of them."""
        )

    def _worker(self, peer):
        return self.field.worker(peer, 0)

    def _ask(self, peer, task):
        return self.field.prepared(self._worker(peer), task)

    def _race(self, task, peers, relative=0.0, absolute=0.0):
        """Seconds a unit by peer, None where there is none. Results that differ, and none of numbanet, are failures."""
        progress(task["name"])
        workers = {peer: self._worker(peer) for peer in peers}
        times, results = self.field.race(task | {"sample": self.sample}, list(workers.values()))
        problem = tasks.disagreement(task, results, relative, absolute)
        if problem:
            self.failures.append(f"{problem}.")
        found = {peer: times.get(worker) for peer, worker in workers.items()}
        self.failures += [f"{task['name']}: no figure of {way}." for way in WAYS if found.get(way, 1) is None]
        return found

    def checks(self):
        """What the GPU computes beside what the CPU computes."""
        rows = []
        for what, kind, task, allowed in self.cases.checks:
            progress(what)
            answer = self._ask("one kernel", task | {"name": what, "kind": kind})
            (found,) = answer.get("result") or [None]
            passed = found is not None and found <= allowed  # NaN is not
            off = "no result" if found is None else f"{found:.1e}" if found else "0"
            rows.append([what, off, f"{allowed:g}", "ok" if passed else "failed"])
            if not passed:
                self.failures.append(f"{what}: {off}.")
        return table(["check", "off by", "at most", "result"], rows)

    def training(self):
        """Microseconds of a training step."""
        peers, rows, races = tuple(gpu_workers.PEERS), [], []
        with tempfile.TemporaryDirectory() as folder:
            for sizes, batch_size, steps, target in self.cases.training:
                task = tasks.training(folder, sizes, batch_size, steps)
                times = self._race(task, peers, relative=1e-3)
                own = fastest(times[way] for way in WAYS)
                races.append((task["name"], {"numbanet": own} | {peer: times[peer] for peer in peers[2:]}))
                cells = [figure(times[peer], 1e6 / steps) for peer in peers]
                rows.append([task["name"], *cells, ratio(times["torch eager"], own), figure(target)])
        head = ["network, batch", *headings(), *peers[2:], "x torch eager", "target"]
        what = """Training, microseconds a step: SGD(0.01), relu, softmax with cross entropy, data on the GPU, as its
            samples lie."""
        how = f"""one kernel: the blocks of one launch meet after every phase. graph: a launch a phase, replayed as a
            CUDA graph; `fit` takes whichever was faster. torch eager: the usual loop. torch graph: a whole step
            captured and replayed. jax scan: an epoch in one jitted scan. x: how many times faster numbanet's best is.
            {faster_peers(races)}"""
        return paragraphs(what, table(head, rows), how)

    def products(self):
        """GFLOP/s of large products."""
        rows, races = [], []
        for m, k, n, target in self.cases.products:
            task = tasks.product("forward", m, k, n, "float32") | {"name": f"{m}, {k}, {n}"}
            times = self._race(task, (*WAYS, "torch eager"))
            own, theirs = fastest(times[way] for way in WAYS), times["torch eager"]
            races.append((task["name"], {"numbanet": own, "torch": theirs}))
            cells = [figure(value and 2e-9 * m * k * n / value) for value in times.values()]
            rows.append([task["name"], *cells, ratio(theirs, own), figure(target)])
        what = "Products (m, k) x (k, n), GFLOP/s: numbanet as in a network, many in one run; torch: `mm` (cuBLAS)."
        head = ["product m, k, n", *headings(), "torch", "of torch", "target"]
        return paragraphs(what, table(head, rows), f"of torch: numbanet's best. {faster_peers(races)}")

    def inference(self):
        """Time of a call of predict."""
        rows, races = [], []
        with tempfile.TemporaryDirectory() as folder:
            for count, unit, scale in self.cases.inference:
                task = tasks.inference(folder, self.cases.predicted, count)
                times = self._race(task, ("one kernel", "torch eager"), absolute=1e-5)
                own, theirs = times["one kernel"], times["torch eager"]
                races.append((task["name"], {"numbanet": own, "torch": theirs}))
                rows.append([task["name"], unit, figure(own, scale), figure(theirs, scale), ratio(theirs, own)])
        what = "Inference: a call from Python on a NumPy array, which returns one; both ways through memory included."
        head = ["network, rows", "unit", "numbanet", "torch eager", "x torch eager"]
        return paragraphs(what, table(head, rows), faster_peers(races))

    def facts(self):
        """What running costs where there is nothing to compute."""
        phases, rows = self.cases.phases, []
        for what, kind, peers, share in [
            ("an empty kernel, launched and waited for", "launch", WAYS[:1], 1),
            (f"a call of `run` with one step of {phases} phases with nothing to do", "call", WAYS, 1),
            ("a phase with nothing to do: a grid barrier, a launch in a graph", "idle", WAYS, phases),
        ]:
            times = self._race({"name": what, "kind": kind, "phases": phases}, peers)
            rows.append([what, *(figure(times.get(way), 1e6 / share) for way in WAYS)])
        return table(["what it costs, microseconds", *headings()], rows)


def headings():
    """The columns of numbanet."""
    return [f"numbanet, {way}" for way in WAYS]


def fastest(values):
    """The least of the values that are there, or None."""
    return min((value for value in values if value is not None), default=None)


def measured(sections):
    """All sections as Markdown, each printed when it is done."""
    began, parts, until = time.perf_counter(), [], 0.0

    def add(part):
        parts.append(part)
        print(part, end="\n\n", flush=True)

    add(sections.header())
    for name, budget in BUDGETS.items():
        until += budget
        sections.field.deadline = began + until
        add(getattr(sections, name)())
    took = f"All checked and measured in {time.perf_counter() - began:.0f} seconds."
    add(paragraphs(*sections.field.notes, *(f"Failed: {failure}" for failure in sections.failures), took))
    return "\n\n".join(parts)


def parsed(arguments):
    """The options; refuses what the README has no place for before anything is measured."""
    parser = argparse.ArgumentParser(
        prog="gpu.py", description="Check numbanet on a GPU and compare it with its peers."
    )
    parser.add_argument("--write", action="store_true", help=f"write the tables into {README.name}")
    parser.add_argument("--quick", action="store_true", help="few and short rounds")
    options = parser.parse_args(arguments)
    if options.write and SIMULATED:
        parser.error("--write is for figures of a GPU; this is the simulator (NUMBA_ENABLE_CUDASIM)")
    if options.write:
        place("gpu")
    return options


def main(arguments=None):
    """The exit status: 0, 1 if a check fails, 2 without a GPU."""
    options = parsed(arguments)
    try:
        kernels.load("cuda")
    except RuntimeError as problem:
        reason = str(problem).partition(". ")[0].rstrip(".")
        print(f"gpu.py: nothing is measured, for {reason}.", file=sys.stderr)
        return 2
    rounds = 1 if SIMULATED else QUICK_ROUNDS if options.quick else ROUNDS
    quick = options.quick or SIMULATED
    with Field(0, 0, least=rounds, pause=0.01, warm=0.1, limits=LIMITS) as field:
        sections = Sections(SIMULATION if SIMULATED else FULL, field, QUICK_SAMPLE if quick else SAMPLE)
        tables = measured(sections)
    if options.write and not sections.failures:
        write("gpu", tables)
    elif options.write:
        print(f"gpu.py: {README.name} stays as it is, for checks failed", file=sys.stderr)
    return 1 if sections.failures else 0


if __name__ == "__main__":
    sys.exit(main())
