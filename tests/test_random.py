"""Random numbers: Philox gives its authors' known answers on every device."""

import numpy as np
import pytest

from numbanet.kernels import cuda, random
from numbanet.kernels.cuda import block, memory, target, transfer

# Counter, key and words from the test vectors of Random123, the authors' own library.
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def words(*numbers):
    return tuple(np.uint64(number) for number in numbers)


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_known_answers(counter, key, answer):
    assert tuple(int(word) for word in random.philox(words(*counter), words(*key))) == answer


def draw(address, size):
    """Thread i of a block writes the words of counter i, key (i, 7)."""
    out, i = memory.table_at(address, size), block.thread()
    zero = np.uint64(0)
    a, b, c, d = random.philox((np.uint64(i), zero, zero, zero), (np.uint64(i), np.uint64(7)))
    out[4 * i], out[4 * i + 1], out[4 * i + 2], out[4 * i + 3] = (np.int64(a), np.int64(b), np.int64(c), np.int64(d))


def test_the_gpu_draws_the_same_words():
    cuda.require()
    found = transfer.place(np.zeros((4, 4), np.int64))
    loop = target.entry(draw, "void(int64, int64)", "draw")
    loop[1, 4](transfer.start_of(found), 16)
    wanted = [[int(word) for word in random.philox(words(i, 0, 0, 0), words(i, 7))] for i in range(4)]
    assert transfer.fetch(found).tolist() == wanted
