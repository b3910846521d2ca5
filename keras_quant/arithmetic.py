"""What TensorFlow computes products with: float32 or bfloat16, which has 8 significant bits."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping

from keras_quant.tf import tf

# Of /proc/cpuinfo: processors that multiply in bfloat16.
BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
_REWRITE = "auto_mixed_precision_onednn_bfloat16"
_LISTS = "TF_AUTO_MIXED_PRECISION_GRAPH_REWRITE_"  # of operations; read at each rewriting
# What is slower in bfloat16, by the list that TensorFlow has it in (auto_mixed_precision_lists.h).
# For the input's gradient of strided depthwise convolutions oneDNN 3.7.3 takes its general kernel
# (brgconv_strided, says ONEDNN_VERBOSE=1), seen to be 20 times as slow as float32's own. For ReLU6
# it has none, and TensorFlow's took 2 to 3 times as long.
_STAYS_FLOAT32 = {
    f"{_LISTS}ALLOWLIST_REMOVE": (
        "DepthwiseConv2dNative",
        "DepthwiseConv2dNativeBackpropFilter",
        "DepthwiseConv2dNativeBackpropInput",
    ),
    f"{_LISTS}CLEARLIST_REMOVE": ("Relu6", "Relu6Grad"),
}


def has_gpu() -> bool:
    """Whether TensorFlow computes on a GPU here."""
    return bool(tf.config.list_physical_devices("GPU"))


@contextlib.contextmanager
def products_in_bfloat16() -> Iterator[None]:
    """Lets functions called within compute convolutions and matrix products in bfloat16 on a CPU.

    TensorFlow rewrites their graphs: what the products read is cast, and what can go on in bfloat16
    without harm, such as batch norm, does; variables, losses, rounding to codes and depthwise
    convolutions stay float32 (Kalamkar et al. 2019, "A Study of BFLOAT16 for Deep Learning
    Training"). Keras' own policy casts every layer instead, and was seen slower. A function that is
    called outside afterwards computes in float32 again. It says nothing about a GPU, which takes
    the policy.
    """
    before = _rewrites()
    with _environment_with(_STAYS_FLOAT32):
        tf.config.optimizer.set_experimental_options({_REWRITE: True})
        try:
            yield
        finally:
            tf.config.optimizer.set_experimental_options({_REWRITE: before})


def can_rewrite() -> bool:
    """Whether TensorFlow rewrites anything in `products_in_bfloat16`: without oneDNN it does not.

    TF_ENABLE_ONEDNN_OPTS=0 turns oneDNN off, and not all builds have it. Nothing says so: it is
    seen of a product that bfloat16 rounds.
    """
    x = tf.fill((8, 8), 1 + 2.0**-9)  # the nearest bfloat16 is 1
    with products_in_bfloat16():
        return bool(tf.function(tf.matmul)(x, tf.eye(8))[0, 0] == 1)


def products_are_float32() -> bool:
    """Whether convolutions and matrix products of what is traced now round to float32 alone.

    Not so on a GPU, whose convolutions may round to TF32, and not in `products_in_bfloat16`.
    """
    return not has_gpu() and not _rewrites()


@contextlib.contextmanager
def _environment_with(added: Mapping[str, tuple[str, ...]]) -> Iterator[None]:
    """Adds words to environment variables that are lists with commas between them."""
    before = {name: os.environ.get(name) for name in added}
    try:
        for name, words in added.items():
            given = before[name]
            os.environ[name] = ",".join([given, *words] if given else words)
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _rewrites() -> bool:
    return bool(tf.config.optimizer.get_experimental_options().get(_REWRITE, False))
