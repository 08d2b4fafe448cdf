"""Whose fault an exception in a worker is."""

import importlib
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from jobs.worker.tensorflow_failures import classify_exception, first_line
from service.errors import InfrastructureFailure, UserFailure


def raised(action: Callable[[], object]) -> BaseException:
    try:
        action()
    except BaseException as error:
        return error
    raise AssertionError("it raised nothing")


def in_user_file(folder: Path, source: str) -> Callable[[], object]:
    """The function `f` of a module of the user's."""
    (folder / "mine.py").write_text(source)
    spec = importlib.util.spec_from_file_location("mine", folder / "mine.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function: Callable[[], object] = module.f
    return function


@pytest.mark.parametrize(
    "kind",
    [tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.DeadlineExceededError],
)
def test_a_lost_peer_is_infrastructure_wherever_it_was_noticed(kind: type[tf.errors.OpError], user_folder: Path) -> None:
    assert isinstance(classify_exception(kind(None, None, "Socket closed")), InfrastructureFailure)
    f = in_user_file(user_folder, "def f(error):\n    raise error\n")
    known = classify_exception(raised(lambda: f(kind(None, None, "Socket closed"))))  # type: ignore[call-arg]
    assert isinstance(known, InfrastructureFailure)
    assert str(known) == "A peer was lost: Socket closed"


GRPC = (
    "Additional GRPC error information from remote target /job:worker/replica:0/task:1 while calling "
    "/tensorflow.WorkerService/RecvBuf:\n"
)
CREATED = ':{"created":"@1685013057.934031384","description":"Socket closed","file_line":69,"grpc_status":14}'
UNKNOWN = ':UNKNOWN:Error received from peer  {grpc_message:"recvmsg:Connection reset by peer", grpc_status:14}'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"Collective ops is aborted by: Socket closed\n{GRPC}{CREATED}", "Collective ops is aborted by: Socket closed"),
        (f"Deadline Exceeded: {GRPC}{CREATED}", "Deadline Exceeded"),
        (f"{GRPC}{CREATED}", "worker 1 does not answer (Socket closed)"),
        (f"{GRPC}{UNKNOWN}", "worker 1 does not answer (recvmsg:Connection reset by peer)"),
        (GRPC, "worker 1 does not answer"),
        ("Additional GRPC error information:", "it does not answer"),
        ("RecvBuf expects a different peer incarnation:", "RecvBuf expects a different peer incarnation"),
        ("", "UnavailableError"),
    ],
)
def test_a_lost_peer_is_said_in_a_sentence_that_ends(text: str, told: str) -> None:
    assert str(classify_exception(tf.errors.UnavailableError(None, None, text))) == f"A peer was lost: {told}"


@pytest.mark.parametrize("error", [MemoryError(), tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")])
def test_no_more_memory_is_the_users_and_says_what_to_do(error: BaseException) -> None:
    known = classify_exception(raised(lambda: (_ for _ in ()).throw(error)))
    assert isinstance(known, UserFailure)
    assert "ran out of memory" in str(known)
    assert "use a smaller batch" in str(known)


def test_an_exception_out_of_the_users_file_is_theirs(user_folder: Path) -> None:
    f = in_user_file(user_folder, "def f():\n    return {}['missing']\n")
    known = classify_exception(raised(f))
    assert isinstance(known, UserFailure)
    assert str(known) == "KeyError: 'missing'"
    assert "return {}['missing']" in known.user_traceback
    assert "mine.py" in known.user_traceback


def test_a_layer_that_fails_inside_keras_is_theirs(user_folder: Path) -> None:
    f = in_user_file(
        user_folder,
        "import keras\nclass Mine(keras.layers.Layer):\n    def call(self, x):\n        raise ValueError('wrong')\n"
        "def f():\n    return Mine()(keras.ops.zeros((1, 2)))\n",
    )
    known = classify_exception(raised(f))
    assert isinstance(known, UserFailure)
    assert str(known) == "ValueError: wrong"
    assert "raise ValueError('wrong')" in known.user_traceback


def test_an_error_while_a_users_layer_is_traced_is_theirs(user_folder: Path) -> None:
    f = in_user_file(
        user_folder,
        "import tensorflow as tf, keras\nclass Mine(keras.layers.Layer):\n    def call(self, x):\n"
        "        return tf.matmul(x, tf.zeros((7, 7)))\n"
        "def f():\n    layer = Mine()\n    return tf.function(lambda x: layer(x))(tf.zeros((1, 2)))\n",
    )
    known = classify_exception(raised(f))
    assert isinstance(known, UserFailure)
    assert "tf.matmul(x, tf.zeros((7, 7)))" in known.user_traceback


@pytest.mark.parametrize("kind", [tf.errors.InvalidArgumentError, tf.errors.FailedPreconditionError, tf.errors.OutOfRangeError])
def test_an_operation_of_the_graph_that_refuses_is_the_models(kind: type[tf.errors.OpError]) -> None:
    known = classify_exception(kind(None, None, "Graph execution error:\n\nDetected at node x defined at\nindices[0] = 7"))
    assert isinstance(known, UserFailure)
    assert str(known) == "TensorFlow refused an operation of the model: indices[0] = 7"
    assert "Detected at node x" in known.user_traceback


def test_a_compiled_operation_that_really_refuses_is_the_models() -> None:
    layer = keras.layers.Embedding(3, 2)
    layer(np.zeros((1, 1), np.int32))

    @tf.function
    def compiled(x: tf.Tensor) -> tf.Tensor:
        return layer(tf.debugging.assert_less(x, 3) or x)

    error = raised(lambda: compiled(tf.constant([[5]])))
    known = classify_exception(error)
    assert isinstance(known, UserFailure)
    assert "\n" not in str(known)


def test_anything_else_is_infrastructure_and_says_where() -> None:
    error = raised(lambda: int("x"))
    error.__traceback__ = None
    known = classify_exception(error)
    assert isinstance(known, InfrastructureFailure)
    assert str(known) == "ValueError: invalid literal for int() with base 10: 'x' (no stack)"


def test_a_fault_of_a_librarys_alone_is_infrastructure() -> None:
    error = raised(lambda: __import__("json").loads("{"))
    assert error.__traceback__
    error.__traceback__ = error.__traceback__.tb_next.tb_next  # type: ignore[union-attr]
    known = classify_exception(error)
    assert isinstance(known, InfrastructureFailure)
    assert "decoder.py:" in str(known)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "ValueError"),
        ("one\ntwo", "one"),
        ("\n\n  two \n", "two"),
        ('in user code:\n\n    File "x.py", line 3, in call  *\n        raise E("no")\n\n    ValueError: too odd\n', "too odd"),
        ('in user code:\n\n    File "x.py", line 3, in call\n        pass\n', "in user code:"),
        ("Exception encountered when calling Odd.call().\n\n\x1b[1mtoo odd\x1b[0m\n\nArguments received", "too odd"),
        ("Graph execution error:", "Graph execution error:"),
        ("x" * 1000, "x" * 400),
    ],
)
def test_the_first_line_that_says_something(text: str, line: str) -> None:
    assert first_line(ValueError(text)) == line


def test_a_full_disk_for_temporary_files_is_no_fault_of_the_users() -> None:
    with open("/dev/full", "wb", buffering=0) as full, pytest.raises(OSError, match="No space left") as caught:
        full.write(b"a line of the user's own")
    error = classify_exception(caught.value)
    assert isinstance(error, InfrastructureFailure)
    assert "set TMPDIR" in str(error)
