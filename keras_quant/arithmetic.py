"""What TensorFlow computes products with: float32 or bfloat16, which has 8 significant bits."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping

from keras_quant.tf import tf

# Of /proc/cpuinfo: processors that multiply in bfloat16.
BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
_REWRITE = "auto_mixed_precision_onednn_bfloat16"
_LISTS = "TF_AUTO_MIXED_PRECISION_GRAPH_REWRITE_"
_DEPTHWISE = "DepthwiseConv2dNative"
_KEPT = f"{_DEPTHWISE},{_DEPTHWISE}BackpropFilter,{_DEPTHWISE}BackpropInput"


def has_gpu() -> bool:
    """Whether TensorFlow computes on a GPU here."""
    return bool(tf.config.list_physical_devices("GPU"))


@contextlib.contextmanager
def products_in_bfloat16() -> Iterator[None]:
    """Lets functions called within compute convolutions and matrix products in bfloat16 on a CPU.

    TensorFlow rewrites their graphs: what the products read is cast, and what can go on in bfloat16
    without harm, such as batch norm, does; variables, losses and rounding to codes stay float32
    (Kalamkar et al. 2019, "A Study of BFLOAT16 for Deep Learning Training"). Keras' own policy
    casts every layer instead, and was seen slower. Depthwise convolutions stay float32, too: their
    gradients were seen to take several times as long in bfloat16. A function that is called outside
    afterwards computes in float32 again. It says nothing about a GPU, which takes the policy.
    """
    before = _rewrites()
    lists = {f"{_LISTS}ALLOWLIST_REMOVE": _KEPT, f"{_LISTS}DENYLIST_ADD": _KEPT}
    tf.config.optimizer.set_experimental_options({_REWRITE: True})
    try:
        with _environment(lists):
            yield
    finally:
        tf.config.optimizer.set_experimental_options({_REWRITE: before})


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Sets variables that TensorFlow reads whenever it rewrites a graph."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


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


def _rewrites() -> bool:
    return bool(tf.config.optimizer.get_experimental_options().get(_REWRITE, False))
