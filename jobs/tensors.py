"""Named arrays as safetensors files, and back, bit for bit."""

from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from safetensors import deserialize
from safetensors.numpy import save as save_contiguous

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


def tensors_to_bytes(tensors: Tensors) -> bytes:
    """A safetensors file."""
    data: bytes = save_contiguous({name: np.asarray(array, order="C") for name, array in tensors.items()})
    return data


def tensors_from_bytes(data: bytes) -> Tensors:
    """What `tensors_to_bytes` was given, bit for bit; safetensors' own reader for NumPy knows no bfloat16."""
    parts: list[tuple[str, Any]] = deserialize(data)  # type: ignore[no-untyped-call]
    return {name: np.frombuffer(part["data"], _TYPES[part["dtype"]]).reshape(part["shape"]) for name, part in parts}
