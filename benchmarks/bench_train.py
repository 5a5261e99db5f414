"""Training: one epoch of fit, and what one step of it costs."""

from __future__ import annotations

import functools

import numpy as np

from . import common

# name: sizes, rows of a batch, steps of an epoch (so many that an epoch takes 5 to 300 ms)
CASES = {
    "2-16-16-2 batch 32": ((2, 16, 16, 2), 32, 2048),
    "64-64-10 batch 32": ((64, 64, 10), 32, 1024),
    "784-128-10 batch 32": ((784, 128, 10), 32, 128),
    "784-128-10 batch 128": ((784, 128, 10), 128, 32),
    "784-512-512-10 batch 128": ((784, 512, 512, 10), 128, 8),
}
WARM = 3  # epochs in setup
MORE = 4  # epochs by which the longer of two fits is longer


def fitting(case, order, device):
    """A call fit(epochs) on a new net."""
    sizes, batch_size, steps = CASES[case]
    X, y = common.blobs(batch_size * steps, sizes[0], sizes[-1])
    model = common.net(sizes).to(device)
    return functools.partial(model.fit, X, y, batch_size, verbose=0, shuffle=order == "shuffled")


@functools.cache
def epochs(case, order, device):
    """A call fit(epochs) on a net that has been compiled, warmed up and seen to learn, on a GPU as on the CPU."""
    fit = fitting(case, order, device)
    history = fit(epochs=WARM)
    common.check_learning(history)
    if device != "cpu":
        found, wanted = history.history["loss"], fitting(case, order, "cpu")(epochs=WARM).history["loss"]
        if not np.allclose(found, wanted, rtol=1e-3):
            raise AssertionError(f"losses {found} on {device} are not those of the CPU, {wanted}")
    return fit


class Train:
    """relu, softmax with cross entropy, SGD(0.01), float32; over nets, threads, orders of samples, devices."""

    params = (list(CASES), [1, 2], ["shuffled", "as they lie"], common.DEVICES)
    param_names = ("net", "threads", "order", "device")
    repeat = common.REPEAT

    def setup(self, case, threads, order, device):
        common.need(device)
        common.use_threads(threads, device)
        self.fit = epochs(case, order, device)

    def time_epoch(self, case, threads, order, device):
        """fit for one epoch, with all that it checks and shuffles."""
        self.fit(epochs=1)

    def track_step(self, case, threads, order, device):
        """Microseconds of a step in a longer fit: the fastest fit of 1 + MORE epochs less the fastest of one."""
        one = common.best(lambda: self.fit(epochs=1), seconds=0.2)
        more = common.best(lambda: self.fit(epochs=1 + MORE), seconds=0.2)
        return round(1e6 * (more - one) / (MORE * CASES[case][2]), 2)

    track_step.unit = "us"
