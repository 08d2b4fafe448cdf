"""The dataset `bits`: random bits, and at each step a function of the bit of `delay` steps before.

Every sequence is a function of (seed, split, epoch, number) alone, drawn by a counter-based generator (Philox, Salmon et
al. 2011): it is the same on every worker, at any number of workers, and in a run that resumes from a checkpoint. Training and
test sequences are disjoint by construction: the last bit of a sequence is set so that the number of its ones is even in the
training split and odd in the test split. All other bits are independent, each with a chance of a half, and so is any
choice of bits that is not the whole sequence.
"""

import numpy as np
from numpy.typing import NDArray

from service.specs.generated import BitSequences

Bits = NDArray[np.uint8]
PARITY = {"train": 0, "test": 1}
_STREAMS = {"train": 1, "test": 2}
IGNORED = -1
"""The label of a step that does not count."""


def bit_columns(params: BitSequences, seed: int, split: str, epoch: int = 0) -> dict[str, NDArray[np.generic]]:
    """`bits`, float32 [sequences, length, 1] of -1 and 1, and `label`, int32 [sequences, length] of 0, 1 and IGNORED."""
    bits = draw_bits(params.sequences, params.length, seed, split, epoch)
    return {"bits": (2 * bits.astype(np.float32) - 1)[:, :, None], "label": targets(bits, params.delay, params.variant)}


def draw_bits(sequences: int, length: int, seed: int, split: str, epoch: int = 0) -> Bits:
    """Random bits [sequences, length] of an epoch; the test split has one epoch alone."""
    # The order of the batches is drawn with the same key, from another stretch of the counter.
    counter = np.array([0, 0, 0, _STREAMS[split]], np.uint64)
    philox = np.random.Philox(key=np.array([seed, epoch], np.uint64), counter=counter)
    count = sequences * length
    words = philox.random_raw(-(-count // 64)).astype("<u8")
    bits = np.unpackbits(words.view(np.uint8), count=count, bitorder="little").reshape(sequences, length)
    bits[:, -1] = (bits[:, :-1].sum(axis=1, dtype=np.int64) + PARITY[split]) % 2
    return bits


def targets(bits: Bits, delay: int, variant: str) -> NDArray[np.int32]:
    """What is to be given at each step of bits [sequences, length]; IGNORED at the first `delay` steps."""
    labels = np.full(bits.shape, IGNORED, np.int32)
    now, then = bits[:, delay:], bits[:, :-delay]
    if variant == "recall":
        labels[:, delay:] = then
    elif variant == "xor":
        labels[:, delay:] = now ^ then
    else:
        labels[:, delay:] = _sums(now, then)
    return labels


def _sums(one: Bits, other: Bits) -> Bits:
    """The binary sums of two streams [sequences, steps], lowest bit first, with carry."""
    sums = np.empty_like(one)
    carry: Bits = np.zeros(len(one), np.uint8)
    for step in range(one.shape[1]):
        total = one[:, step] + other[:, step] + carry
        sums[:, step], carry = total & 1, np.asarray(total >> 1, np.uint8)
    return sums
