"""Training with products of bfloat16: eight bits of fraction, sums and weights in float32."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from keras_quant.tf import tf

# Of /proc/cpuinfo: processors that multiply in bfloat16.
BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
_REWRITE = "auto_mixed_precision_onednn_bfloat16"


def has_gpu() -> bool:
    """Whether TensorFlow computes on a GPU here."""
    return bool(tf.config.list_physical_devices("GPU"))


@contextlib.contextmanager
def products_in_bfloat16() -> Iterator[None]:
    """Lets functions called within compute convolutions and matrix products in bfloat16 on a CPU.

    TensorFlow rewrites their graphs: what the products read is cast, and what can go on in bfloat16
    without harm, such as batch norm, does; variables, losses and rounding to codes stay float32
    (Kalamkar et al. 2019, "A Study of BFLOAT16 for Deep Learning Training"). Keras' own policy
    casts every layer instead, and was seen slower. A function that is called outside afterwards
    computes in float32 again. It says nothing about a GPU, which takes the policy.
    """
    before = tf.config.optimizer.get_experimental_options().get(_REWRITE, False)
    tf.config.optimizer.set_experimental_options({_REWRITE: True})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({_REWRITE: before})
