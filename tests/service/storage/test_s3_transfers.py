"""How objects are cut into parts."""

import hashlib
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.storage import s3_transfers
from service.storage.s3_transfers import MIB, MOST_PARTS, PART, part_size, parts_of_file, parts_of_stream


@given(st.integers(0, 5 * 1024**4))
def test_no_object_has_more_parts_than_a_server_takes(size: int) -> None:
    each = part_size(size)
    assert each >= PART and each % MIB == 0
    assert -(-size // each) <= MOST_PARTS
    # A part of more than 5 GiB would be refused.
    assert each <= 5 * 1024**3


@given(pieces=st.lists(st.binary(max_size=40), max_size=8), part=st.integers(1, 30))
def test_parts_make_up_the_pieces(pieces: list[bytes], part: int) -> None:
    whole = b"".join(pieces)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(s3_transfers, "part_size", lambda size: part)
        of_stream, of_file = hashlib.sha256(), hashlib.sha256()
        parts = list(parts_of_stream([memoryview(piece) for piece in pieces], len(whole), of_stream))
        same = list(parts_of_file(io.BytesIO(whole), len(whole), of_file))
    assert parts == same and b"".join(parts) == whole
    assert all(len(each) == part for each in parts[:-1]) and all(parts)
    assert of_stream.hexdigest() == of_file.hexdigest() == hashlib.sha256(whole).hexdigest()
