"""LeNet-5 (LeCun, Bottou, Bengio, Haffner 1998, "Gradient-based learning applied to document recognition", II.B).

The layers are the paper's: C1 6 maps 5×5, S2 pooling, C3 16 maps 5×5, S4 pooling, C5 120 units 5×5, F6 84 units, 10
outputs, on an image padded to 32×32. Details that differ, each as is usual today:

- S2 and S4 average without a trainable coefficient and bias for each map (`pooling: max` takes the maximum).
- C3 sees all six maps of S2; the paper's Table I connects each map to some of them (2,416 parameters, not 1,516).
- The activation is tanh, not 1.7159 tanh(2x/3) (`activation: relu` trains faster).
- The outputs are logits of a softmax; the paper's are distances to fixed 7×12 bitmaps (radial basis functions).
- Pixels are 0 to 1; the paper's are -0.1 to 1.175, of mean 0 and variance 1.
"""

import keras
from keras import layers

from jobs.layers.parameters import choice, image_shape, share

PARAMETERS = {"activation": "tanh", "pooling": "average", "dropout": 0.0}
SOLVABLE = True

SIDE = 32


def build(
    input_shape: tuple[int, ...], classes: int, *, activation: str = "tanh", pooling: str = "average", dropout: float = 0.0
) -> keras.Model:
    """LeNet-5 for images (height, width, channels) of at most 32 pixels a side, in 0 to 1; gives logits (batch, classes).

    Smaller images are enlarged to 28 pixels by whole factors as far as that goes, and padded with zeros to 32×32.
    61,706 parameters for one channel and ten classes.
    """
    height, width, _ = shape = image_shape("lenet5", input_shape)
    name = choice("activation", activation, ("tanh", "relu", "sigmoid"))
    pool = layers.MaxPooling2D if choice("pooling", pooling, ("average", "max")) == "max" else layers.AveragePooling2D
    model = keras.Sequential([keras.Input(shape)], name="lenet5")
    factor = max(1, 28 // max(height, width))
    if factor > 1:
        model.add(layers.UpSampling2D(factor, interpolation="bilinear"))
    height, width = height * factor, width * factor
    if max(height, width) > SIDE:
        model.add(layers.Resizing(SIDE, SIDE))
    elif min(height, width) < SIDE:
        model.add(layers.ZeroPadding2D((_sides(height), _sides(width))))
    model.add(layers.Conv2D(6, 5, activation=name, name="c1"))
    model.add(pool(2, name="s2"))
    model.add(layers.Conv2D(16, 5, activation=name, name="c3"))
    model.add(pool(2, name="s4"))
    model.add(layers.Conv2D(120, 5, activation=name, name="c5"))
    model.add(layers.Flatten())
    model.add(layers.Dense(84, activation=name, name="f6"))
    if rate := share("dropout", dropout):
        model.add(layers.Dropout(rate))
    model.add(layers.Dense(classes, dtype="float32", name="logits"))
    return model


def _sides(length: int) -> tuple[int, int]:
    return (SIDE - length) // 2, SIDE - length - (SIDE - length) // 2
