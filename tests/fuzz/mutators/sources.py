"""Damage to a user's Python file with a model in it, which may do anything but return one."""

from __future__ import annotations

from random import Random

SOURCE = """\
from keras_quant.tf import keras


def build(input_shape, num_classes):
    image = keras.Input(input_shape, name="image")
    x = keras.layers.Conv2D(4, 3, strides=2, use_bias=False, name="conv1")(image)
    x = keras.layers.BatchNormalization(name="bn1")(x)
    x = keras.layers.ReLU(name="relu1")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    x = keras.layers.Dense(num_classes, name="logits")(x)
    return keras.Model(image, x, name="net")
"""
"""The undamaged file."""

_LINES = (
    *("raise SystemExit(0)", "raise SystemExit('text')", "raise KeyError", "raise ValueError('x')"),
    *("class Own(BaseException): pass\n{0}raise Own('x')", "raise GeneratorExit", "return None"),
    *(
        "return 5",
        "return build",
        "return keras",
        "return [image, x]",
        "import nothing_of_that_name",
    ),
    *("x = keras.layers.Dropout(0.5)(x)", "x = keras.layers.Lambda(lambda y: y * 2)(x)"),
    *("x = x * 2", "x = keras.backend.square(x)", "x = keras.layers.Dense(0)(x)", "x = None"),
    *("x = keras.layers.Dense(3, name='logits')(x)", "x = keras.layers.Activation('tanh')(x)"),
    *(
        "x = keras.layers.Conv2D(2, 9)(x)",
        "x = keras.layers.LSTM(3)(x)",
        "return keras.Sequential()",
    ),
    *("return keras.Model(image, [x, x])", "return keras.Model([image, keras.Input((3,))], x)"),
    *("x = keras.layers.Softmax()(x)", "x = x[0]", "return keras.Model(image, image)", "1 / 0"),
    *("build(input_shape, num_classes)", "(", "input_shape = (7,)", "num_classes = 1", "x: int"),
    *(
        "assert False",
        "keras.backend.set_floatx('float64')\n{0}keras.backend.set_floatx('float32')",
    ),
    *("image = keras.Input((None, None, 1))", "del keras", "yield x", "print('said', flush=True)"),
    *("import keras as keras3\n{0}return keras3.Sequential([keras3.Input((8, 8, 1))])",),
)
_WORDS = (
    "relu1",
    "conv1",
    "bn1",
    "ReLU",
    "Conv2D",
    "image",
    "build",
    "Dense",
    "input_shape",
    "=",
    "(",
)


def damage_source(content: bytes, chance: Random) -> bytes:
    """Puts a line in, leaves one out, or writes a word otherwise; never a number.

    Numbers stay, since a trusted file may ask for as much memory as it wants.
    """
    lines = content.decode().splitlines()
    how = chance.random()
    place = chance.randrange(len(lines))
    if how < 0.6:
        indent = " " * (len(lines[place]) - len(lines[place].lstrip()))
        lines.insert(place, indent + chance.choice(_LINES).format(indent))
    elif how < 0.75:
        del lines[place]
    else:
        words = [word for word in _WORDS if word in content.decode()]
        other = chance.choice([*_WORDS, "", "\0", "é", "None", "'a/b'", "'a' * 999"])
        return content.replace(
            chance.choice(words).encode(), other.encode(), chance.choice([1, -1])
        )
    return "\n".join(lines).encode()
