"""Memory that is used again: never by two at a time."""

import threading
from concurrent.futures import ThreadPoolExecutor

from service.datasets.buffers import Buffers


def test_a_piece_is_used_again_and_cut_to_the_size_that_is_asked_for() -> None:
    buffers = Buffers(10)
    with buffers.take(4) as piece:
        assert len(piece) == 4
        piece[:] = b"abcd"
    with buffers.take() as piece:
        assert len(piece) == 10 and piece[:4] == b"abcd"
    with Buffers(0).take(0) as piece:
        assert len(piece) == 0


def test_two_at_a_time_have_pieces_of_their_own() -> None:
    buffers, barrier = Buffers(1000), threading.Barrier(4)

    def use(value: int) -> bool:
        with buffers.take(1000) as piece:
            piece[:] = bytes([value]) * 1000
            barrier.wait(30)
            return bytes(piece) == bytes([value]) * 1000

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(use, range(4)))
