"""Whose fault an exception in a worker is, by its type and its stack."""

import re
import traceback
from types import TracebackType

import tensorflow as tf

from jobs.training.ring import LOST_PEER_ERRORS
from jobs.user_code import telling_line, user_traceback
from service.errors import DelaylineError, InfrastructureFailure, UserFailure
from service.scratch import full_disk

_DETAILS = "Additional GRPC error information"
"""With what TensorFlow begins gRPC's record, in a line of its own or after its sentence."""
_PEER = re.compile(r"/job:worker/replica:\d+/task:(\d+)")
_DESCRIPTION = re.compile(r'(?:grpc_message|"description")\s*:\s*"([^"\n]{1,120})"')


def classify_exception(error: BaseException) -> DelaylineError:
    """Turn an exception into one of Delayline's errors: a lost peer is infrastructure; memory, the user's own stack and a refused operation are the user's."""
    if isinstance(error, LOST_PEER_ERRORS):
        return InfrastructureFailure(f"A peer was lost: {_lost_peer(error)}")
    if isinstance(error, (MemoryError, tf.errors.ResourceExhaustedError)):
        return UserFailure(
            f"The worker ran out of memory ({first_line(error)}): use a smaller batch, a smaller model, or more workers.",
            user_traceback(error),
        )
    if isinstance(error, OSError) and (full := full_disk(error)):
        return InfrastructureFailure(full)
    own = user_traceback(error)
    if own:
        return UserFailure(f"{type(error).__name__}: {first_line(error)}", own)
    if isinstance(error, (tf.errors.InvalidArgumentError, tf.errors.FailedPreconditionError, tf.errors.OutOfRangeError)):
        # Raised by an operation of the compiled graph: the message holds the lines that defined it.
        return UserFailure(f"TensorFlow refused an operation of the model: {first_line(error)}", str(error))
    return InfrastructureFailure(f"{type(error).__name__}: {first_line(error)} ({_where(error.__traceback__)})")


def first_line(error: BaseException) -> str:
    """What an exception's text says, in one line; its type where it says nothing."""
    return telling_line(error)[:400] or type(error).__name__


def _lost_peer(error: BaseException) -> str:
    """What TensorFlow says of a peer that is gone, without gRPC's own record of it, which begins behind a colon."""
    told = first_line(error).partition(_DETAILS)[0].rstrip(" :.")
    if told:
        return told
    peer, word = _PEER.search(str(error)), _DESCRIPTION.search(str(error))
    who = f"worker {peer[1]} does not answer" if peer else "it does not answer"
    return f"{who} ({word[1]})" if word else who


def _where(trace: TracebackType | None) -> str:
    frames = traceback.extract_tb(trace)
    return f"{frames[-1].filename.rsplit('/', 1)[-1]}:{frames[-1].lineno}" if frames else "no stack"
