"""The averages that an optimizer with `use_ema` keeps of what it changes, in the place of what it changes: Keras' SwapEMAWeights, bit for bit.

Training continues from the weights themselves; evaluations, checkpoints' results and the final model have the averages.
"""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf


class Averages:
    """Of `variables`, which `optimizer` was built with; with a loss scale the optimizer within keeps them."""

    def __init__(self, optimizer: keras.optimizers.Optimizer, variables: Sequence[Any]) -> None:
        inner = getattr(optimizer, "inner_optimizer", optimizer)
        kept = inner._model_variables_moving_average if inner.use_ema else []
        self._pairs = [(v, average) for v, average in zip(variables, kept, strict=bool(kept)) if average is not None]
        self._iterations = inner._iterations

    @property
    def there(self) -> bool:
        """Whether there are any: before the first step, which a loss scale may put off, they are zeros."""
        return bool(self._pairs) and int(keras.ops.convert_to_numpy(self._iterations)) > 0

    def exchange(self) -> None:
        """Put each into the place of the other; twice is as before, which Keras' sums and differences are not."""
        for variable, average in self._pairs:
            value = tf.identity(tf.convert_to_tensor(variable.value))
            variable.assign(tf.convert_to_tensor(average.value))
            average.assign(value)
