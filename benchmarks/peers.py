"""numbanet side by side with its peers, on this machine: training, inference and products.

    python benchmarks/peers.py            prints the tables
    python benchmarks/peers.py --write    writes them into README.md, between <!-- peers --> and <!-- /peers -->

Same data, same initial weights, same order of samples, and the same outputs (checked first) for all. Contestants take
turns, a short sample each, so that a busy neighbour hits all alike; rounds in which other processes were busy count
only when there are no better ones.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import os
import platform
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a script, this file is not in a package

from benchmarks import products as product_cases
from benchmarks import tasks
from benchmarks.peer_race import PREPARE, QUIET, Cores, Field
from benchmarks.peer_workers import seconds
from benchmarks.tables import README, faster_peers, figure, paragraphs, place, progress, ratio, table, write

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
THREADS = sorted({1, CORES})

# Sizes of the layers, rows of a batch, steps of an epoch, and how many times faster than torch and jax it should be.
TRAINING = [
    ((2, 16, 16, 2), 32, 1024, (130, 4)),
    ((64, 64, 10), 32, 512, (50, 2.4)),
    ((784, 128, 10), 32, 128, (8.5, 1.95)),
    ((784, 128, 10), 128, 64, (3.2, 1.5)),
    ((784, 512, 512, 10), 128, 16, (1.5, 1.2)),
    ((784, 1024, 1024, 10), 256, 4, (1.2, 1.15)),
]
# Sizes, rows of a call, unit and how many there are in a second, and how much faster than torch and onnxruntime.
INFERENCE = [
    ((4, 32, 32, 2), 1, "us", 1e6, (11.4, 2.9)),
    ((784, 128, 10), 1, "us", 1e6, (5.6, 2.1)),
    ((784, 128, 10), 100_000, "ms", 1e3, (1.4, 1.1)),
]

# -- tables


def threads_of(count):
    """As the head of a column: 1 thread, 2 threads."""
    return f"{count} thread{'s' * (count > 1)}"


def best(times, peer):
    """The time of a peer at its best number of threads, None if it has none."""
    return min((value for worker, value in times.items() if worker.peer == peer), default=None)


def own(times):
    """numbanet's times by number of threads, None where there is none."""
    by_threads = {worker.threads: value for worker, value in times.items() if worker.peer == "numbanet"}
    return [by_threads.get(count) for count in THREADS]


def operations(sizes, batch_size):
    """Floating-point operations of a step: forward, gradients of parameters, gradients of inputs but the first."""
    products = [2 * batch_size * inputs * units for inputs, units in itertools.pairwise(sizes)]
    return 3 * sum(products) - products[0]


def check_agreement(task, results, relative, absolute):
    """Stop with a sentence if contestants that did the same have got different results."""
    problem = tasks.disagreement(task, results, relative, absolute)
    if problem:
        raise SystemExit(problem)


# -- sections


def peak_of(field):
    """Peak floating-point operations a second of one core, or None."""
    answer = field.worker("numbanet", 1).ask(PREPARE, prepare={"kind": "peak"})
    return answer["result"][0] if "result" in answer else None


def floor_of(operations, peak):
    """Seconds that the operations take at the peak of all cores."""
    return operations / (peak * CORES) if peak else None


def shuffling():
    """Seconds a sample that numbanet takes for the order of an epoch."""
    from numbanet.training import shuffled

    samples = 2**15
    return min(seconds(shuffled, samples, 0, epoch) for epoch in range(20)) / samples


def training(field, peak):
    """Microseconds of a training step."""
    peers, rows, races = ("torch", "jax", "scikit-learn"), [], []
    with tempfile.TemporaryDirectory() as folder:
        for sizes, batch_size, steps, targets in TRAINING:
            task = tasks.training(folder, sizes, batch_size, steps)
            progress(task["name"])
            workers = [field.worker(peer, count) for peer in ("numbanet", *peers) for count in THREADS]
            times, losses = field.race(task, workers)
            check_agreement(task, losses, relative=1e-3, absolute=0)
            mine, theirs = own(times), [best(times, peer) for peer in peers]
            races.append((task["name"], {peer: best(times, peer) for peer in ("numbanet", *peers)}))
            floor = floor_of(operations(sizes, batch_size), peak)
            cells = [figure(value, 1e6 / steps) for value in (*mine, *theirs)]
            faster = [ratio(value, best(times, "numbanet")) for value in theirs[:2]]
            aims = [figure(target) for target in targets]
            cells += [figure(floor, 1e6), faster[0], aims[0], faster[1], aims[1]]
            rows.append([field.marked(task), *cells])
    head = ["network, batch", *(f"numbanet, {threads_of(count)}" for count in THREADS)]
    head += [*peers, "floor", "x torch", "target", "x jax", "target"]
    what = "Training, microseconds a step: float32, SGD(0.01), relu, softmax with cross entropy, data in memory."
    how = f"""numbanet: `fit` for two epochs or more, with all it checks. torch: eager, the usual loop. jax: the whole
        epoch in one jitted scan. scikit-learn: `MLPClassifier.fit`. All take slices of the data in the order in
        which they lie: none shuffles (numbanet's `fit` does by default, {figure(shuffling(), 1e9)} ns a sample, and
        then gathers). Peers at their best of {" and ".join(map(threads_of, THREADS))}. Floor: the multiply-adds at the
        peak of all cores, {figure(peak, 1e-9)} GFLOP/s each. x: how many times faster numbanet is, at its best too.
        {faster_peers(races)}"""
    return paragraphs(what, table(head, rows), how)


def inference(field, peak):
    """Time of a call of predict."""
    peers, rows, races = ("torch", "onnxruntime"), [], []
    with tempfile.TemporaryDirectory() as folder:
        for sizes, count, unit, scale, targets in INFERENCE:
            task = tasks.inference(folder, sizes, count)
            progress(task["name"])
            workers = [field.worker(peer, threads) for peer in ("numbanet", *peers) for threads in THREADS]
            times, outputs = field.race(task, workers)
            check_agreement(task, outputs, relative=0, absolute=1e-5)
            theirs = [best(times, peer) for peer in peers]
            races.append((task["name"], {peer: best(times, peer) for peer in ("numbanet", *peers)}))
            multiplied = 2 * count * sum(inputs * units for inputs, units in itertools.pairwise(sizes))
            floor = floor_of(multiplied, peak) if count > 1 else None  # a call of one row is not arithmetic
            cells = [figure(value, scale) for value in (*own(times), *theirs)]
            faster = [ratio(value, best(times, "numbanet")) for value in theirs]
            aims = [figure(target) for target in targets]
            cells += [figure(floor, scale), faster[0], aims[0], faster[1], aims[1]]
            rows.append([field.marked(task), unit, *cells])
    head = ["network, rows", "unit", *(f"numbanet, {threads_of(count)}" for count in THREADS)]
    head += [*peers, "floor", "x torch", "target", "x onnxruntime", "target"]
    what = "Inference: a call from Python on a NumPy array, which returns one; float32."
    how = f"""numbanet: `predict`. Peers at their best number of threads, and for many rows in whole or in chunks of
        1000 to 4000, whichever is fastest. {faster_peers(races)}"""
    return paragraphs(what, table(head, rows), how)


def products(field, peak):
    """GFLOP/s of matrix products on one thread."""
    peers, dtypes, rows, races = ("numbanet", "numpy", "torch"), ("float32", "float64"), [], []
    for case, m, k, n in product_cases.CASES:
        cells = []
        for dtype in dtypes:
            task = tasks.product(case, m, k, n, dtype)
            progress(f"{task['name']} {dtype}")
            times, _ = field.race(task, [field.worker(peer, 1) for peer in peers])
            races.append((f"{task['name']}, {dtype}", {peer: best(times, peer) for peer in peers}))
            rates = [value and 2e-9 * m * k * n / value for value in (best(times, peer) for peer in peers)]
            cells += map(figure, rates)
        rows.append([field.marked(task), *cells])
    head = ["product m, k, n", *(f"{peer} {dtype}" for dtype in dtypes for peer in peers)]
    what = """Products (m, k) x (k, n) on one thread, GFLOP/s. numbanet as its kernels multiply in training, many in one
        call, operands padded and kernels in panels; the peers each a call from Python into memory made beforehand."""
    how = f"""Peak: {figure(peak, 1e-9)} in float32, half of that in float64. The first ten products are those of
        784-128-10: forward x @ w, delta dy @ w.T, gradient x.T @ dy. numpy: `matmul`. torch: `mm`.
        {faster_peers(races)}"""
    return paragraphs(what, table(head, rows), how)


SECTIONS = {"training": training, "inference": inference, "products": products}


# -- the whole


def processor():
    """The name of the CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def footer(field, peak):
    """Machine, versions and date, and what is to be said about the measuring: after all sections."""
    versions = dict.fromkeys(version for worker in field.workers.values() for version in worker.versions)
    system = f"{processor()}, {CORES} cores, {platform.system()}; Python {platform.python_version()}"
    text = f"""{system}, {", ".join(versions)}; {datetime.date.today()}. Medians of {field.least} interleaved rounds or
        more."""
    worst = max(field.disturbed.values(), default=0.0)
    if worst >= QUIET:
        text += f" *: other processes used up to {worst:.1f} cores meanwhile."
    return paragraphs(text, *field.notes)


def parsed(arguments):
    """The options; refuses to write a part of the tables over all of them."""
    parser = argparse.ArgumentParser(prog="peers.py", description="Compare numbanet with its peers on this machine.")
    parser.add_argument("--write", action="store_true", help=f"write the tables into {README.name}")
    parser.add_argument("--only", choices=SECTIONS, help="one of the tables")
    parser.add_argument("--seconds", type=float, default=0.5, metavar="S", help="of measuring a cell (default: 0.5)")
    parser.add_argument(
        "--patience", type=float, default=300, metavar="S", help="to wait for busy cores in all (default: 300)"
    )
    parser.add_argument("--quick", action="store_true", help="few and short rounds, whatever the neighbours do")
    options = parser.parse_args(arguments)
    if options.write and options.only:
        parser.error("--write replaces all tables; leave out --only")
    if not (options.seconds > 0 and options.patience >= 0):
        parser.error("--seconds must be above 0 and --patience 0 or more")
    if options.write:
        place("peers")
    return options


def main(arguments=None):
    options = parsed(arguments)
    field = Field(0.1, 0, least=3) if options.quick else Field(options.seconds, options.patience, cores=Cores(CORES))
    with field:
        peak = peak_of(field)
        chosen = [options.only] if options.only else SECTIONS
        parts = []
        for section in [*(SECTIONS[name] for name in chosen), footer]:
            parts.append(section(field, peak))
            print(parts[-1], end="\n\n", flush=True)
    if options.write:
        write("peers", "\n\n".join(parts))


if __name__ == "__main__":
    main()
