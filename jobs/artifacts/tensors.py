"""Named arrays as safetensors files, and back, bit for bit; in memory, and as streams that copy nothing."""

import json
import math
from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from safetensors import deserialize
from safetensors.numpy import save as save_contiguous

from service.errors import Damaged

Tensors = dict[str, NDArray[np.generic]]

# Beside NumPy's own types, what Keras' variables may be.
_TYPES = {
    "F16": np.float16,
    "F32": np.float32,
    "F64": np.float64,
    "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "I8": np.int8,
    "I16": np.int16,
    "I32": np.int32,
    "I64": np.int64,
    "U8": np.uint8,
    "U16": np.uint16,
    "U32": np.uint32,
    "U64": np.uint64,
    "BOOL": np.bool_,
    "C64": np.complex64,
}
_NAMES = {np.dtype(kind): name for name, kind in _TYPES.items()}
_ALIGNMENT = 8


class TensorStream:
    """A safetensors file of arrays, `size` bytes: its pieces are the header and each array's own memory.

    It may be read again. The arrays must not change meanwhile.
    """

    def __init__(self, tensors: Tensors) -> None:
        # The larger types first, as the library does: each array is then aligned to its type.
        self._arrays = dict(sorted(tensors.items(), key=lambda each: (-each[1].dtype.itemsize, each[0])))
        header, end = dict[str, Any](), 0
        for name, array in self._arrays.items():
            header[name] = {
                "dtype": _NAMES[array.dtype.newbyteorder("=")],
                "shape": list(array.shape),
                "data_offsets": [end, end + array.nbytes],
            }
            end += array.nbytes
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        text += b" " * (-len(text) % _ALIGNMENT)
        self._header = len(text).to_bytes(8, "little") + text
        self.size = len(self._header) + end

    def __iter__(self) -> Iterator[memoryview]:
        yield memoryview(self._header)
        for array in self._arrays.values():
            if array.size:
                # An array that is not contiguous is copied, alone.
                native = array.astype(array.dtype.newbyteorder("="), order="C", copy=False)
                yield native.reshape(-1).view(np.uint8).data


def tensors_in(buffer: NDArray[np.uint8]) -> Tensors:
    """The arrays of a safetensors file, as views of the memory that it was read into; raise Damaged for what is none."""
    try:
        length = int.from_bytes(buffer[:8].tobytes(), "little")
        header = json.loads(buffer[8 : 8 + length].tobytes())
        found, first = {}, 8 + length
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            begin, end = entry["data_offsets"]
            kind, shape = np.dtype(_TYPES[entry["dtype"]]), tuple(entry["shape"])
            if not 0 <= begin <= end <= len(buffer) - first or end - begin != math.prod(shape) * kind.itemsize:
                raise ValueError(f"{name} is not within the file")
            found[name] = buffer[first + begin : first + end].view(kind).reshape(shape)
        return found
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Damaged(f"A file of a checkpoint is not safetensors: {error}.") from error


def tensors_to_bytes(tensors: Tensors) -> bytes:
    """A safetensors file."""
    data: bytes = save_contiguous({name: np.asarray(array, order="C") for name, array in tensors.items()})
    return data


def tensors_from_bytes(data: bytes) -> Tensors:
    """What `tensors_to_bytes` was given, bit for bit; safetensors' own reader for NumPy knows no bfloat16."""
    parts: list[tuple[str, Any]] = deserialize(data)  # type: ignore[no-untyped-call]
    return {name: np.frombuffer(part["data"], _TYPES[part["dtype"]]).reshape(part["shape"]) for name, part in parts}
