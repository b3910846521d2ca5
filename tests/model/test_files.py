from __future__ import annotations

import inspect
import io
import json
import pickle
import shutil
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from keras_quant.errors import ModelError
from keras_quant.methods.layers import InputGrid
from keras_quant.methods.qkeras import twin as method
from keras_quant.methods.qkeras.door import qkeras
from keras_quant.model.files import load_model, save_model
from keras_quant.qparams import signed, unsigned
from keras_quant.schemes.scheme import QuantSpec
from keras_quant.tf import keras

pytestmark = pytest.mark.tensorflow


OPTIONS = method.QKerasOptions()


def quantized_model(bits: int, *, narrow_range: bool = True) -> keras.Model:
    """Each kind of layer that a scheme of one width makes, with random weights."""
    weight = QuantSpec(bits=bits, narrow_range=narrow_range)
    fine = unsigned(bits, 2.0**-9)  # integer bits below zero
    codes = signed(max(2, bits), 0.25, narrow_range=narrow_range)
    image = keras.Input((6, 6, 2), name="image")
    x = InputGrid(1 / 255, 0, 255, name="input_quant")(image)
    x = method.wrap(keras.layers.Conv2D(3, 3, name="conv"), weight, OPTIONS)(x)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = method.activation("conv_quant", fine)(x)
    x = method.wrap(
        keras.layers.DepthwiseConv2D(3, name="depthwise"), weight, method.QKerasOptions()
    )(x)
    x = method.activation("depthwise_quant", codes)(x)
    x = keras.layers.Flatten(name="flatten")(x)
    x = method.wrap(keras.layers.Dense(4, name="head"), weight, OPTIONS)(x)
    model = keras.Model(image, x, name="net")
    random = np.random.default_rng(bits)
    # Variances stay positive; kernels get both signs.
    shapes = [tuple(weight.shape) for weight in model.weights]
    model.set_weights([random.uniform(0.05, 1, s) - 0.4 * (len(s) > 1) for s in shapes])
    return model


def float_model(*layers: keras.layers.Layer) -> keras.Model:
    model = keras.Sequential([keras.Input((3,)), *layers, keras.layers.Dense(2, name="head")])
    model.set_weights([np.random.default_rng(0).normal(size=w.shape) for w in model.weights])
    return model


def answers(model: keras.Model) -> np.ndarray:
    shape = (16, *model.input_shape[1:])
    return model(np.random.default_rng(1).random(shape, np.float32), training=False).numpy()


def edit_config(path: Path, edit: Callable[[dict[str, Any]], None]) -> Path:
    """Rewrites a .keras file with another config.json."""
    edited = path.with_name("edited.keras")
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(edited, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "config.json":
                config = json.loads(content)
                edit(config)
                content = json.dumps(config).encode()
            target.writestr(name, content)
    return edited


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_model(float_model(), tmp_path / "model.keras")
    return tmp_path / "model.keras"


@pytest.mark.thinned(4)
@pytest.mark.parametrize(
    ("bits", "narrow_range"), [*((bits, True) for bits in range(1, 9)), (2, False), (5, False)]
)
def test_loaded_model_answers_bit_for_bit_as_the_saved_one(
    tmp_path: Path, bits: int, narrow_range: bool
) -> None:
    model = quantized_model(bits, narrow_range=narrow_range)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "The `keras.constraints")
        save_model(model, tmp_path / "model.keras")
        loaded = load_model(tmp_path / "model.keras")
    expected = answers(model)
    assert expected.std() > 0
    np.testing.assert_array_equal(answers(loaded), expected)
    assert [layer.name for layer in loaded.layers] == [layer.name for layer in model.layers]


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5|The `keras.constraints")
def test_h5_file_of_a_quantized_model_answers_bit_for_bit(tmp_path: Path) -> None:
    model = quantized_model(4)
    model.save(tmp_path / "model.h5")
    np.testing.assert_array_equal(answers(load_model(tmp_path / "model.h5")), answers(model))


@pytest.mark.parametrize(
    "quantizer",
    ["quantized_bits(4,0,1,alpha='auto')", "binary(alpha='auto')", "ternary()", "quantized_po2(4)"],
)
def test_quantizers_of_qkeras_itself_are_loaded(tmp_path: Path, quantizer: str) -> None:
    layer = qkeras.QDense(3, kernel_quantizer=quantizer, activation="quantized_relu(3)")
    model = float_model(layer)
    save_model(model, tmp_path / "model.keras")
    np.testing.assert_array_equal(answers(load_model(tmp_path / "model.keras")), answers(model))


def test_saved_file_has_no_optimizer_and_the_model_stays_compiled(tmp_path: Path) -> None:
    model = float_model()
    model.compile("adam", "mse")
    model.fit(np.zeros((4, 3)), np.zeros((4, 2)), verbose=0)
    save_model(model, tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        assert b"adam" not in archive.read("config.json").lower()
        assert "optimizer" not in h5py.File(archive.open("model.weights.h5"))
    assert model.optimizer is not None
    assert load_model(tmp_path / "model.keras").optimizer is None


def test_files_of_compiled_models_are_loaded(tmp_path: Path) -> None:
    model = float_model()
    model.compile(keras.optimizers.Adam(), keras.losses.MeanSquaredError())
    model.fit(np.zeros((4, 3)), np.zeros((4, 2)), verbose=0)
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(answers(load_model(tmp_path / "model.keras")), answers(model))


def test_model_without_fixed_inputs_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has no fixed inputs; only functional models"):
        save_model(keras.Sequential([keras.layers.Dense(2)]), tmp_path / "model.keras")
    with pytest.raises(ModelError, match="model.h5: a model is saved as .keras"):
        save_model(float_model(), tmp_path / "model.h5")


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_lambda_runs_only_when_trusted(tmp_path: Path, suffix: str) -> None:
    marker = str(tmp_path / "marker")

    def payload(x):
        __import__("pathlib").Path(marker).touch()
        return x

    payload.__name__ = "<lambda>"  # what makes Keras save its bytecode
    model = float_model(keras.layers.Lambda(payload, name="evil"))
    model.save(tmp_path / f"model{suffix}")
    Path(marker).unlink()

    with pytest.raises(ModelError, match="layer evil: a Lambda layer holds Python code.*--trust"):
        load_model(tmp_path / f"model{suffix}")
    assert not Path(marker).exists()
    load_model(tmp_path / f"model{suffix}", trust=True)
    assert Path(marker).exists()


def named(module: str | None, class_name: str, config: Any, registered: str | None = None) -> dict:
    return {
        "module": module,
        "class_name": class_name,
        "config": config,
        "registered_name": registered,
    }


ATTACKS = {
    "os.system as a layer": (named("os", "system", {}), "'system' of module os"),
    "eval under a safe name": (named("builtins", "Dense", {}, "eval"), "registered as eval"),
    "layer of another module": (named("os", "Dense", {}), "taken from module os"),
    "download": (named("keras.utils", "function", "get_file", "get_file"), "'get_file'"),
    "bytecode": (named("builtins", "__lambda__", {"value": "4wEAAA=="}), "is Python code"),
    "called function": (
        named("keras.src.layers.core.tf_op_layer", "TFOpLambda", {"function": "io.write_file"}),
        "a TFOpLambda layer calls a function that the file names",
    ),
    "saved model": (named("keras.layers", "TFSMLayer", {"filepath": "x"}), "'TFSMLayer'"),
}


@pytest.mark.parametrize(("attack", "found"), ATTACKS.values(), ids=ATTACKS)
def test_attack_by_names_is_refused(saved: Path, attack: dict[str, Any], found: str) -> None:
    def put(config: dict[str, Any]) -> None:
        config["config"]["layers"][-1]["config"]["kernel_initializer"] = attack

    with pytest.raises(ModelError, match=f"layer head: .*{found}.*--trust"):
        load_model(edit_config(saved, put))


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('touch MARKER')",
        "quantized_bits(__import__('os').system('touch MARKER'))",
        "tf.io.write_file('MARKER','x')",
        "get_quantizer('MARKER')",
        "relu(4)",
        "quantized_relu(4,2)(3)",
    ],
)
@pytest.mark.parametrize("key", ["activation", "kernel_quantizer"])
def test_quantizer_text_with_anything_else_than_numbers_is_refused(
    saved: Path, text: str, key: str
) -> None:
    marker = saved.with_name("marker")

    def put(config: dict[str, Any]) -> None:
        layer = config["config"]["layers"][-1]
        layer.update(module="qkeras.qlayers", class_name="QDense", registered_name="QDense")
        layer["config"][key] = text.replace("MARKER", str(marker))

    with pytest.raises(ModelError, match=f"layer head: {key} .* is none that is known to be safe"):
        load_model(edit_config(saved, put))
    assert not marker.exists()


class Touch:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def object_array(payload: Touch, name: str, save: Callable[..., None], folder: Path) -> bytes:
    save(folder / name, np.array([payload], dtype=object))
    return (folder / name).read_bytes()


MEMBERS: dict[str, Callable[[Touch, Path], bytes]] = {
    "assets/state.pkl": lambda payload, _: pickle.dumps(payload, protocol=0),
    "harmless.txt": lambda payload, _: pickle.dumps(payload),
    "array.npy": lambda payload, folder: object_array(payload, "a.npy", np.save, folder),
    "arrays.npz": lambda payload, folder: object_array(payload, "a.npz", np.savez, folder),
}


@pytest.mark.parametrize(("name", "content"), MEMBERS.items(), ids=MEMBERS)
def test_pickle_in_the_zip_is_refused_and_never_unpickled(
    saved: Path, name: str, content: Callable[[Touch, Path], bytes]
) -> None:
    marker = saved.with_name("marker")
    with zipfile.ZipFile(saved, "a") as archive:
        archive.writestr(name, content(Touch(marker), saved.parent))
    with pytest.raises(ModelError, match=rf"'{name}\S*': a pickle holds Python code.*--trust"):
        load_model(saved)
    load_model(saved, trust=True)
    assert not marker.exists()


@pytest.mark.parametrize("name", ["../up.txt", "/etc/up.txt", "a\\..\\..\\up.txt", "C:/up.txt"])
def test_path_that_leads_out_of_the_zip_is_refused(saved: Path, name: str) -> None:
    with zipfile.ZipFile(saved, "a") as archive:
        archive.writestr(name, "x")
    with pytest.raises(ModelError, match="its path leads out of the file"):
        load_model(saved)


def test_all_findings_are_told_at_once(saved: Path) -> None:
    def put(config: dict[str, Any]) -> None:
        config["config"]["layers"][-1]["config"].update(
            activation="evil()", kernel_initializer=named("os", "system", {})
        )

    with pytest.raises(ModelError, match=r"activation 'evil\(\)'.*'system'"):
        load_model(edit_config(saved, put))


@keras.utils.register_keras_serializable("elsewhere")
class Twice(keras.layers.Layer):
    def call(self, inputs):
        return 2 * inputs


def test_custom_layer_is_named_and_loads_when_trusted_and_known(tmp_path: Path) -> None:
    model = float_model(Twice(name="twice"))
    save_model(model, tmp_path / "model.keras")
    with pytest.raises(
        ModelError, match="layer twice: 'Twice' of module .* is no class or function"
    ):
        load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        answers(load_model(tmp_path / "model.keras", trust=True)), answers(model)
    )


def test_trusted_class_that_is_not_installed_is_named(saved: Path) -> None:
    def put(config: dict[str, Any]) -> None:
        layer = config["config"]["layers"][-1]
        layer.update(module="absent_package", class_name="Magic", registered_name="Magic")

    with pytest.raises(
        ModelError, match="cannot be rebuilt: .*head: 'Magic' of module absent_package"
    ):
        load_model(edit_config(saved, put), trust=True)


def without(path: Path, member: str) -> None:
    shutil.move(path, path.with_name("whole"))
    with (
        zipfile.ZipFile(path.with_name("whole")) as source,
        zipfile.ZipFile(path, "w") as target,
    ):
        for name in set(source.namelist()) - {member}:
            target.writestr(name, source.read(name))


def with_metadata(path: Path, text: str) -> None:
    without(path, "metadata.json")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("metadata.json", text)


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "absent": (lambda path: path.unlink(), "no such file; give a .keras"),
    "folder": (lambda path: (path.unlink(), path.mkdir()), "is a folder; give a .keras"),
    "no zip": (lambda path: path.write_bytes(b"x" * 99), "not a whole .*File is not a zip file"),
    "empty": (lambda path: path.write_bytes(b""), "not a whole Keras model file"),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:-99]), "not a whole Keras"),
    "no metadata": (lambda path: with_metadata(path, "[]"), "not a whole Keras model file"),
    "no config": (lambda path: without(path, "config.json"), ".*it lacks config.json"),
    "no weights": (lambda path: without(path, "model.weights.h5"), ".*lacks model.weights.h5"),
}


@pytest.mark.parametrize(("spoil", "message"), BROKEN.values(), ids=BROKEN)
def test_broken_file_is_told_with_its_fault(
    saved: Path, spoil: Callable[[Path], object], message: str
) -> None:
    spoil(saved)
    with pytest.raises(ModelError, match=rf"model\.keras: {message}"):
        load_model(saved)


@pytest.mark.parametrize("name", ["model.keras", "model.hdf5", "MODEL.H5"])
def test_hdf5_is_read_whatever_it_is_called(tmp_path: Path, name: str) -> None:
    model = float_model()
    model.save(tmp_path / "given.h5")
    path = (tmp_path / "given.h5").rename(tmp_path / name)
    np.testing.assert_array_equal(answers(load_model(path)), answers(model))


def test_wrong_suffix_tells_the_right_ones(saved: Path) -> None:
    with pytest.raises(ModelError, match=r"ends with '\.zip'; \.keras, \.h5, \.hdf5 files are"):
        load_model(saved.rename(saved.with_suffix(".zip")))


def test_h5_file_of_weights_alone_is_refused(tmp_path: Path) -> None:
    float_model().save_weights(tmp_path / "model.weights.h5")
    with pytest.raises(ModelError, match="weights alone are no model"):
        load_model(tmp_path / "model.weights.h5")


def test_weights_that_do_not_fit_are_refused(saved: Path) -> None:
    def widen(config: dict[str, Any]) -> None:
        config["config"]["layers"][-1]["config"]["units"] = 5

    with pytest.raises(ModelError, match="its weights do not fit its layers"):
        load_model(edit_config(saved, widen))


def secret_link(group: h5py.Group, name: str, secret: Path) -> None:
    """Puts a link to a dataset of another file in the place of one."""
    del group[name]
    group[name] = h5py.ExternalLink(str(secret), "/kernel")


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_weights_that_lie_in_another_file_are_refused(
    suffix: str, trust: bool, tmp_path: Path
) -> None:
    path, secret = tmp_path / f"model{suffix}", tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["kernel"] = np.ones((3, 2), np.float32)
    float_model().save(path)
    if suffix == ".h5":
        with h5py.File(path, "a") as file:
            secret_link(file["model_weights/head/head"], "kernel:0", secret)
    else:
        with zipfile.ZipFile(path) as archive:
            weights = io.BytesIO(archive.read("model.weights.h5"))
        with h5py.File(weights, "a") as file:
            secret_link(file["layers/dense/vars"], "0", secret)
        without(path, "model.weights.h5")
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("model.weights.h5", weights.getvalue())
    with pytest.raises(ModelError, match=r"bytes of other files .*an external link.*secret\.h5"):
        load_model(path, trust=trust)


def repacked(path: Path, **more: bytes) -> Path:
    """The file with all members compressed."""
    packed = path.with_name("packed.keras")
    with (
        zipfile.ZipFile(path) as source,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for name in source.namelist():
            target.writestr(name, source.read(name))
        for name, content in more.items():
            target.writestr(name, content)
    return packed


def test_compressed_file_answers_as_the_other(saved: Path) -> None:
    expected = answers(load_model(saved))
    np.testing.assert_array_equal(answers(load_model(repacked(saved))), expected)


def test_content_that_unpacks_to_too_much_is_refused_unread(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keras_quant.model.bounds.UNPACKED_BYTES", 10_000)
    with pytest.raises(ModelError, match=r"and its content 1,0\d\d,\d\d\d; .* are allowed"):
        load_model(repacked(saved, zeros=bytes(10**6)))


def test_arrays_that_claim_what_the_file_does_not_hold_are_refused(tmp_path: Path) -> None:
    float_model().save(tmp_path / "model.h5")
    with h5py.File(tmp_path / "model.h5", "a") as file:
        file["model_weights/head"].create_dataset("claimed", (10**12,), "f4", chunks=(1000,))
    with pytest.raises(ModelError, match=r"and its content 4,000,000,[\d,]+; .* are allowed"):
        load_model(tmp_path / "model.h5")


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ({"units": 10**9}, r"units is 1e\+09; at most 16,777,216 is allowed"),
        ({"units": 10**7}, r"variable kernel has the shape \(3, 10000000\), and the file has 8 "),
    ],
)
def test_numbers_that_ask_for_too_much_are_refused(
    saved: Path, setting: dict[str, int], told: str
) -> None:
    def put(config: dict[str, Any]) -> None:
        config["config"]["layers"][-1]["config"] |= setting

    with pytest.raises(ModelError, match=told):
        load_model(edit_config(saved, put))


def test_a_zip_in_a_zip_in_the_file_is_not_opened(saved: Path) -> None:
    content = b""
    for name in ("c.txt", "b.zip", "a.zip"):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr(name, content)
        content = stream.getvalue()
    with zipfile.ZipFile(saved, "a") as archive:
        archive.writestr("outer.zip", content)
    with pytest.raises(ModelError, match=r"'outer.zip/a.zip': a zip in 'outer.zip', a zip itself"):
        load_model(saved)


def test_plain_arrays_beside_the_model_are_no_fault(saved: Path) -> None:
    np.savez(saved.with_name("plain.npz"), np.zeros((2, 3)), np.array(["a"]), np.array(True))
    with zipfile.ZipFile(saved, "a") as archive:
        archive.write(saved.with_name("plain.npz"), "plain.npz")
    load_model(saved)


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_more_layers_in_a_row_than_keras_can_follow_are_told(tmp_path: Path, name: str) -> None:
    image = x = keras.Input((3,))
    for _ in range(150):
        x = keras.layers.ReLU()(x)
    inner = keras.Model(image, x)
    keras.Model(inner.input, keras.layers.Dense(2)(inner(inner.input))).save(tmp_path / name)
    assert load_model(tmp_path / name).count_params() == 8
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 140)  # Keras' own calls, and not 150 more
    try:
        with pytest.raises(ModelError) as told:
            load_model(tmp_path / name)
    finally:
        sys.setrecursionlimit(before)
    said = str(told.value)
    assert said.startswith(f"{tmp_path / name}: not loaded: its 154 layers, one behind or within")
    assert "of about " in said and "layers at most: cut this one into several models" in said
