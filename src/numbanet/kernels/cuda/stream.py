"""Samples that do not fit into the GPU's memory: fed chunk by chunk, in an epoch's order.

There are two buffers on the GPU. While blocks compute on one, a thread of the host gathers the next chunk in pinned
memory and copies it into the other on a stream of its own. Kernels find sample k of the epoch in row `places[k]`.
"""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from numbanet.kernels.cuda import launch
from numbanet.kernels.cuda.target import cuda, free_memory, new_stream
from numbanet.kernels.cuda.transfer import busy, empty, out_of_memory_is_told


@functools.cache
def copying():
    """The stream on which chunks travel, beside that of all else."""
    return new_stream()


def fits(arrays):
    """Is there room for these arrays on the GPU, with some left for everything else?"""
    wanted = sum(array.nbytes for array in arrays.values() if isinstance(array, np.ndarray))
    with busy:
        return wanted <= launch.SHARE * free_memory()[0]


def feed(arrays, batch_size):
    """(the arrays of samples, None), or if they do not fit, (buffers, a Feed that fills them)"""
    if fits(arrays):
        return arrays, None
    fed = Feed(arrays, batch_size)
    return fed.buffers, fed


class Feed:
    """Two buffers on the GPU, and what fills them. arrays: of samples, by name."""

    def __init__(self, arrays, batch_size):
        row = sum(array[:1].nbytes for array in arrays.values())
        self._arrays, self._batch_size = arrays, batch_size
        samples = len(next(iter(arrays.values())))
        most = int(min(launch.CHUNK, free_memory()[0] // 8)) // (row * batch_size)
        self._batches = max(1, min(most, -(-samples // batch_size)))  # of a chunk
        self._rows = self._batches * batch_size
        shapes = {name: (2 * self._rows, *array.shape[1:]) for name, array in arrays.items()}
        self.buffers = {name: empty(shapes[name], array.dtype) for name, array in arrays.items()}
        with busy, out_of_memory_is_told(2 * self._rows * row):
            self._pinned = {name: cuda.pinned_array(shapes[name], array.dtype) for name, array in arrays.items()}

    def places(self, samples):
        """For each sample of the epoch in turn, the row of the buffers where it will be."""
        return np.arange(samples) % (2 * self._rows)

    def batches(self, order):
        """(first, last) of the batches of each chunk, whose samples are there when it is given out."""
        count = -(-len(order) // self._rows)
        with ThreadPoolExecutor(1) as copier:
            coming = copier.submit(self._copy, order, 0)
            for chunk in range(count):
                coming.result()
                if chunk + 1 < count:
                    coming = copier.submit(self._copy, order, chunk + 1)
                first = chunk * self._batches
                yield first, min(first + self._batches, -(-len(order) // self._batch_size))

    def _copy(self, order, chunk):
        """Bring a chunk to its buffer, whose last chunk has been computed."""
        wanted = order[chunk * self._rows : (chunk + 1) * self._rows]
        begin = chunk % 2 * self._rows
        for name, array in self._arrays.items():
            pinned = self._pinned[name][begin : begin + len(wanted)]
            np.take(array, wanted, axis=0, out=pinned, mode="clip")  # else NumPy would check, in a copy
            self.buffers[name][begin : begin + len(wanted)].copy_to_device(pinned, stream=copying())
        copying().synchronize()
