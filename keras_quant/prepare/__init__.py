"""From a float Keras model and a scheme to a fake-quantized model.

`plan` says where quantizers go: after each block (a convolution or dense layer with its batch norm
and ReLU, an addition, an average), unless its values leave the model. Everything that an Add
reads or writes shares one step: then adding codes needs no rounding, and integer kernels add
exactly. So does everything that a Concatenate joins. A convolution that only feeds an Add is
held in 8 bits on that step, which costs no accuracy: rounding the branch on the sum's own grid
is rounding the sum. `wrap` rebuilds the model with the quantizers of a plan.
"""

from __future__ import annotations

from keras_quant.prepare.plan import Plan, plan, with_grids, with_real_steps
from keras_quant.prepare.wrap import copy_weights, split_float, wrap

__all__ = ["Plan", "copy_weights", "plan", "split_float", "with_grids", "with_real_steps", "wrap"]
