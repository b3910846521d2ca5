from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.calibration import collect as module  # noqa: E402
from keras_quant.calibration.collect import collect, fingerprint  # noqa: E402
from keras_quant.errors import ModelError  # noqa: E402
from keras_quant.prepare import plan, split_float  # noqa: E402
from keras_quant.qparams import unsigned  # noqa: E402
from keras_quant.schemes.bits import scheme_from_bits  # noqa: E402
from keras_quant.tf import keras  # noqa: E402
from tests.calibration.nets import L, images_of, net, to_unit  # noqa: E402

W4A4 = scheme_from_bits("4")


def test_statistics_are_those_of_all_values_of_all_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH_SIZE", 16)
    model, images = net(), images_of(40)
    planned = plan(model, W4A4)
    found = collect(planned, model, images, reals=to_unit)
    values = split_float(planned, model, [p.after for p in planned.points])(to_unit(images))
    whole = {p.after: np.asarray(x) for p, x in zip(planned.points, values, strict=True)}
    whole["image"] = to_unit(images)
    assert found.images == 40 and found.tensors.keys() == whole.keys()
    for name, x in whole.items():
        moments = found.tensors[name].moments
        assert (moments.count, found.tensors[name].channels) == (x.size, None)
        # Batches of other sizes may round another way in TensorFlow.
        np.testing.assert_allclose([moments.low, moments.high], [x.min(), x.max()], rtol=1e-5)
        np.testing.assert_allclose(moments.mean, x.mean(dtype=np.float64), rtol=1e-5)


def test_channels_have_moments_where_they_are_asked_for() -> None:
    model, images = net(), to_unit(images_of(9))
    planned = plan(model, W4A4)
    found = collect(planned, model, images, per_channel=["image"])
    channels = found.tensors["image"].channels
    assert channels is not None and channels.count == 9 * 6 * 6
    np.testing.assert_array_equal(channels.high, images.max(axis=(0, 1, 2)))
    assert found.tensors["relu1"].channels is None


def test_statistics_do_not_depend_on_bits() -> None:
    model, images = net(), to_unit(images_of(9))
    wide, narrow = (
        collect(plan(model, scheme_from_bits(bits)), model, images) for bits in ("w8a8", "w2a4")
    )
    assert wide.tensors.keys() == narrow.tensors.keys()


def test_batches_are_smaller_where_images_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen = net(), []
    planned = plan(model, W4A4)
    collect(planned, model, images_of(300), reals=to_unit, on_images=seen.append)
    assert seen == [128, 256, 300]
    values = sum(int(np.prod(operation.shape)) for operation in planned.operations)
    monkeypatch.setattr(module, "BATCH_BYTES", 4 * values * 7 + 3)
    seen.clear()
    collect(planned, model, images_of(20), reals=to_unit, on_images=seen.append)
    assert seen == [7, 14, 20]


def test_fresh_batch_norm_uses_the_statistics_of_the_batch_and_the_model_stays() -> None:
    model = net(batch_norm=True)
    model.get_layer("bn1").moving_variance.assign(np.full(6, 1e4))
    before = model.get_weights()
    planned = plan(model, W4A4)
    fresh, fitted = (
        collect(planned, model, images_of(), reals=to_unit, fresh=fresh) for fresh in (True, False)
    )
    highs = [s.tensors["relu1"].moments.high for s in (fresh, fitted)]
    assert (fresh.fresh, fitted.fresh) == (True, False) and highs[0] > 16 * highs[1]
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_several_inputs_have_statistics_each() -> None:
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    model = keras.Model([a, b], L.Dense(2, name="logits")(L.Concatenate(name="join")([a, b])))
    planned = plan(model, scheme_from_bits("w8a8"))
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    found = collect(planned, model, [x, -x])
    assert [float(found.tensors[name].moments.high) for name in "ab"] == [7, 0]


def test_plan_that_rounds_nothing_looks_at_the_input_alone() -> None:
    model = net()
    found = collect(plan(model, scheme_from_bits("w4af")), model, images_of(4), reals=to_unit)
    assert found.tensors.keys() == {"image"}


def test_layers_that_put_out_nan_are_named() -> None:
    model = net()
    kernel, bias = model.get_layer("conv2").get_weights()
    model.get_layer("conv2").set_weights([kernel, bias + np.nan])
    with pytest.raises(ModelError, match="NaN or infinity: conv2, sum, gap, hidden"):
        collect(plan(model, W4A4), model, images_of(4), reals=to_unit)


def test_fingerprint_is_of_weights_and_their_shapes() -> None:
    model = net()
    same = keras.models.clone_model(model)
    assert fingerprint(same) != fingerprint(model)
    same.set_weights(model.get_weights())
    assert fingerprint(same) == fingerprint(model)
    flat = keras.Sequential([L.Dense(2, use_bias=False, input_shape=(3,))])
    tall = keras.Sequential([L.Dense(3, use_bias=False, input_shape=(2,))])
    tall.set_weights([flat.get_weights()[0].reshape(2, 3)])
    assert fingerprint(flat) != fingerprint(tall)


def test_pixels_are_kept_beside_the_statistics() -> None:
    model, pixels = net(), unsigned(8, 1 / 255)
    found = collect(plan(model, W4A4), model, images_of(3), reals=to_unit, pixels=pixels)
    assert found.pixels is pixels
    assert dataclasses.replace(found, pixels=None).pixels is None
