"""PACT: where activations are clipped is learned; kernels are DoReFa's.

Choi et al., "PACT: Parameterized Clipping Activation for Quantized Neural Networks" (2018): eq. 1
to 3, alpha with the weight decay of the kernels, and kernels as Zhou et al. 2016 have them.

What differs: alpha begins where calibration puts it by least squares, and not at 10. What is stored
and trained is the step, alpha over the highest code, which activations that are added share, also
where their highest codes differ; so the gradient of the step is the highest code times that of
alpha, which the Adam of its own (`Tuning`) makes the same moves of. Values that reach below zero
are clipped at the other end of the same codes, at -alpha or next to it.
"""

from __future__ import annotations

from keras_quant.methods.dorefa import TWINS, wrap
from keras_quant.methods.grids import StepGrid, read_grid
from keras_quant.methods.layers import GroupStep
from keras_quant.methods.method import FileNames, Maker, Method, NoOptions, Reader, Tuning
from keras_quant.methods.twins import KINDS, movable_of, read_twin
from keras_quant.tf import keras


@keras.utils.register_keras_serializable("keras_quant")
class PactGrid(StepGrid):
    """Clips at a learned bound and rounds; see `round_to_step`."""

    rounding_counts = False
    scales_gradient = False


METHOD = Method(
    maker=Maker(
        wrap=wrap,
        activation=lambda name, grid, step, options: PactGrid(
            step, grid.qmin, grid.qmax, grid.zero_point, name=name
        ),
        step=lambda name, grid, options: GroupStep(grid.scale, name=name),
        options=NoOptions,
    ),
    reader=Reader(
        stands_for={f"Dorefa{kind}": kind for kind in KINDS},
        kernel=lambda layer: read_twin(layer, TWINS),
        activation=lambda layer, name: (
            read_grid(layer, name) if isinstance(layer, PactGrid) else None
        ),
        movable=lambda layer: movable_of(layer, TWINS),
    ),
    files=FileNames(classes=frozenset({"PactGrid", *(f"Dorefa{kind}" for kind in KINDS)})),
    tunings={"scale": Tuning(rate=1e-3, adam=True, relative=True, decays=True)},
    real_steps=True,
)
