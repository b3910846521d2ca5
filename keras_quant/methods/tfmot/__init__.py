"""TF-MOT: kernels and activations rounded within ranges that training keeps track of.

Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference" (2018), as the TensorFlow Model Optimization toolkit has it.
Also reads what users quantized with the toolkit itself.
"""

from __future__ import annotations

from keras_quant.methods.method import FileNames, Maker, Method, Reader
from keras_quant.methods.tfmot import moving, names, parts, twin
from keras_quant.methods.tfmot.repair import custom_objects, repair_tfmot, settle

repair_tfmot()

METHOD = Method(
    maker=Maker(
        wrap=twin.wrap, activation=moving.activation, step=moving.step, options=twin.TfmotOptions
    ),
    reader=Reader(
        stands_for={**{cls.__name__: kind for kind, cls in twin.TWINS.items()}, **parts.PARTS},
        kernel=twin.read_kernel,
        activation=moving.read_activation,
        movable=lambda layer: parts.movable_of(layer) or twin.movable_of(layer),
    ),
    files=FileNames(
        classes=names.CLASSES | twin.CLASSES | moving.CLASSES,
        packages=("tensorflow_model_optimization",),
        objects=custom_objects,
        settle=settle,
        refused=names.REFUSED,
        unfit=names.UNFIT,
    ),
)

__all__ = ["METHOD"]
