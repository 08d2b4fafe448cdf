"""A model's graph of operations, for TensorBoard."""

import inspect
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

FEATURES = "features"
"""Before the names of a graph's placeholders for features."""


def model_graph(model: keras.Model, features: dict[str, Any], inputs: Callable[[dict[str, Any]], Any]) -> bytes:
    """The GraphDef, serialised, of what the model does with a batch; `features` holds a shape and a type of one example by name.

    The variables are arguments of the graph: nothing is read, drawn or changed, so one worker may do this alone. To read a
    variable that each worker keeps for itself would be a collective.
    """

    parameters = inspect.signature(model.call).parameters.values()
    # Unlike the model itself, stateless_call hands its options to a user's call() as they are.
    takes = any(each.name == "training" or each.kind is each.VAR_KEYWORD for each in parameters)
    options = {"training": False} if takes else {}

    def forward(trainable: list[Any], others: list[Any], batch: dict[str, Any]) -> Any:
        return model.stateless_call(trainable, others, inputs(batch), **options)[0]

    def like(variables: list[Any]) -> list[Any]:
        return [tf.TensorSpec(variable.shape, variable.dtype, f"variables/{variable.path}") for variable in variables]

    batch = {name: tf.TensorSpec((None, *shape), dtype, f"{FEATURES}/{name}") for name, (shape, dtype) in features.items()}
    traced = tf.function(forward, autograph=False).get_concrete_function(
        like(model.trainable_variables), like(model.non_trainable_variables), batch
    )
    data: bytes = traced.graph.as_graph_def().SerializeToString()
    return data
