"""What in a saved Keras model could run code when Keras loads it.

Keras imports modules and calls functions that a file names, and unmarshals Python bytecode. So a
file's content is compared with lists of what is known to be harmless, here and in each method
(`methods.method.FileNames`), before Keras sees it. Refusing modules alone would not do: Keras' own
hold functions that download files and load bytecode.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import IO, Any

from keras_quant.errors import close_names, shown
from keras_quant.methods import layers
from keras_quant.methods.method import FileNames
from keras_quant.methods.readers import file_names
from keras_quant.model.bounds import EVALUATED, allowed_bytes
from keras_quant.zoo import halting, sampling

# fmt: off
MODELS = frozenset({"Functional", "Model", "Sequential"})
KERAS_LAYERS = frozenset({
    "Activation", "ActivityRegularization", "Add", "AlphaDropout", "Average", "AveragePooling1D",
    "AveragePooling2D", "AveragePooling3D", "BatchNormalization", "Bidirectional", "Concatenate",
    "Conv1D", "Conv1DTranspose", "Conv2D", "Conv2DTranspose", "Conv3D", "Conv3DTranspose",
    "Cropping1D", "Cropping2D", "Cropping3D", "Dense", "DepthwiseConv1D", "DepthwiseConv2D", "Dot",
    "Dropout", "ELU", "Embedding", "Flatten", "GRU", "GaussianDropout", "GaussianNoise",
    "GlobalAveragePooling1D", "GlobalAveragePooling2D", "GlobalAveragePooling3D",
    "GlobalMaxPooling1D", "GlobalMaxPooling2D", "GlobalMaxPooling3D", "GroupNormalization",
    "Identity", "InputLayer", "LSTM", "LayerNormalization", "LeakyReLU", "Masking", "MaxPooling1D",
    "MaxPooling2D", "MaxPooling3D", "Maximum", "Minimum", "Multiply", "Normalization", "PReLU",
    "Permute", "RandomBrightness", "RandomContrast", "RandomFlip", "RandomRotation",
    "RandomTranslation", "RandomZoom", "ReLU", "RepeatVector", "Rescaling", "Reshape", "Resizing",
    "SeparableConv1D",
    "SeparableConv2D", "SimpleRNN", "Softmax", "SpatialDropout1D", "SpatialDropout2D",
    "SpatialDropout3D", "Subtract", "ThresholdedReLU", "TimeDistributed", "UnitNormalization",
    "UpSampling1D", "UpSampling2D", "UpSampling3D", "ZeroPadding1D", "ZeroPadding2D",
    "ZeroPadding3D",
})
INITIALIZERS = frozenset({
    "Constant", "GlorotNormal", "GlorotUniform", "HeNormal", "HeUniform", "Identity",
    "LecunNormal", "LecunUniform", "Ones", "Orthogonal", "RandomNormal", "RandomUniform",
    "TruncatedNormal", "VarianceScaling", "Zeros",
})
REGULARIZERS = frozenset({"L1", "L1L2", "L2", "OrthogonalRegularizer"})
CONSTRAINTS = frozenset({"MaxNorm", "MinMaxNorm", "NonNeg", "RadialConstraint", "UnitNorm"})
ACTIVATIONS = frozenset({
    "elu", "exponential", "gelu", "hard_sigmoid", "leaky_relu", "linear", "mish", "relu", "relu6",
    "selu", "sigmoid", "silu", "softmax", "softplus", "softsign", "swish", "tanh",
})
OWN_FUNCTIONS = frozenset({"hard_sigmoid_keras3", "hard_swish"}) | halting.FUNCTIONS
VALUES = frozenset({
    "Policy", "__bytes__", "__keras_tensor__", "__numpy__", "__tensor__",
})
# fmt: on
_SETTINGS = INITIALIZERS | REGULARIZERS | CONSTRAINTS
_ZOO = sampling.CLASSES | halting.CLASSES
_CLASSES = MODELS | KERAS_LAYERS | layers.CLASSES | _ZOO | _SETTINGS | VALUES
_FUNCTIONS = ACTIVATIONS | OWN_FUNCTIONS
_NAMED_FUNCTIONS = ACTIVATIONS | {f"keras_quant>{name}" for name in OWN_FUNCTIONS}
_SETTING_NAMES = {name.lower() for name in _SETTINGS}
_PACKAGES = ("builtins", "keras", "tf_keras", "keras_quant")
_CODE = {
    "Lambda": "a Lambda layer holds Python code",
    "__lambda__": "a lambda is Python code",
    "TFOpLambda": "a TFOpLambda layer calls a function that the file names",
    "SlicingOpLambda": "a SlicingOpLambda layer calls a function that the file names",
}

_NUMBER = r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?"
_VALUE = rf"({_NUMBER}|True|False|None|'\w*'|\"\w*\")"
_ARGUMENT = rf"\s*(\w+\s*=\s*)?{_VALUE}\s*"
_CALL = re.compile(rf"(?P<name>\w+)\(({_ARGUMENT}(,{_ARGUMENT})*)?\)")

_PICKLE_SUFFIXES = frozenset({".dill", ".joblib", ".pickle", ".pkl"})
_PICKLE_STARTS = tuple(bytes([0x80, protocol]) for protocol in range(2, 6))
_NPY_START, _ZIP_START = b"\x93NUMPY", b"PK\x03\x04"
_NPY_HEADER = 10_000  # bytes; numpy itself evaluates no more (numpy.lib.format, max_header_size)
_PLAIN_ARRAY = re.compile(
    rb"\{'descr': '[<>|=][biufcSU]\d+', 'fortran_order': (True|False), 'shape': \([\d, ]*\), \}\s*"
)


def config_problems(config: Any) -> list[str]:
    """Lists what a model's configuration names that is not known to be harmless.

    Args:
        config: the parsed JSON of config.json, or of an .h5 file's model_config, in the words of
            Keras 2: what is built, and not what it was translated from.
    Returns: one sentence for each finding, with the layer's name.
    """
    return list(dict.fromkeys(_walk(config, "the model", file_names())))


def unfinished(config: Any) -> list[str]:
    """Lists the wrappers in a configuration that are to be taken off before a model is loaded.

    Returns: a sentence for each kind, with the names of its layers.
    """
    refused = file_names().refused
    found: dict[str, list[str]] = {}
    for item in _objects(config):
        name = str(item["class_name"]).rpartition(">")[2]
        if name in refused:
            found.setdefault(name, []).append(_name_of(item, "the model").removeprefix("layer "))
    return [f"{', '.join(names)}: {name}, {refused[name]}" for name, names in found.items()]


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """All that a configuration says the class of."""
    if isinstance(value, dict):
        if "class_name" in value:
            yield value
        value = list(value.values())
    for item in value if isinstance(value, list) else ():
        yield from _objects(item)


def archive_problems(archive: zipfile.ZipFile, *, inside: str = "") -> list[str]:
    """Lists the pickles of a zip file, and names that lead out of its folder.

    Args:
        inside: name of the member that the archive is; "" for a file.
    Returns: one sentence for each finding, with the member's name.
    """
    problems = []
    for member in archive.infolist():
        path = PurePosixPath(member.filename.replace("\\", "/"))
        name = f"{inside}/{member.filename}" if inside else member.filename
        if path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
            problems.append(f"{name!r}: its path leads out of the file")
        elif path.suffix.lower() in _PICKLE_SUFFIXES:
            problems.append(_pickle(name))
        else:
            with archive.open(member) as stream:
                problems += _content_problems(name, stream, inside)
    return problems


def _content_problems(name: str, stream: IO[bytes], inside: str) -> list[str]:
    """What is wrong with a member: a pickle, a numpy array of pickled objects, a zip with one."""
    start = stream.read(len(_NPY_START))
    if start == _NPY_START:
        return [_pickle(name)] if _holds_objects(stream) else []
    if not start.startswith(_ZIP_START):
        return [_pickle(name)] if start.startswith(_PICKLE_STARTS) else []
    if inside:
        return [f"{name!r}: a zip in {inside!r}, a zip itself, is not looked into"]
    with tempfile.TemporaryFile() as copy:  # to go to and fro in a compressed one takes forever
        copy.write(start)
        shutil.copyfileobj(stream, copy)
        size = copy.tell()
        with zipfile.ZipFile(copy) as inner:
            unpacked = sum(member.file_size for member in inner.infolist())
            if unpacked > allowed_bytes(size):
                return [
                    f"{name!r}: unpacks to {unpacked:,} bytes; {allowed_bytes(size):,} are allowed"
                ]
            return archive_problems(inner, inside=name)


def _pickle(name: str) -> str:
    return f"{name!r}: a pickle holds Python code"


def _holds_objects(stream: IO[bytes]) -> bool:
    """Whether the header of a numpy array, behind its first bytes, is not that of plain numbers."""
    version = stream.read(2)
    length = int.from_bytes(stream.read(2 if version[:1] == b"\1" else 4), "little")
    return length > _NPY_HEADER or not _PLAIN_ARRAY.fullmatch(stream.read(length))


def _walk(value: Any, where: str, names: FileNames) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from _walk(item, where, names)
    if not isinstance(value, dict):
        return
    if "class_name" in value:
        where = _name_of(value, where)
        yield from (f"{where}: {problem}" for problem in _object_problems(value, names))
    for key, item in value.items():
        if isinstance(item, str) and not _is_safe_string(key, item, names):
            yield f"{where}: {key} {shown(item)} is none that is known to be safe"
        yield from _walk(item, where, names)


def _name_of(value: Mapping[str, Any], where: str) -> str:
    """The layer that an object is, or else the one that it belongs to."""
    config = value.get("config")
    if str(value["class_name"]) in VALUES or not isinstance(config, dict) or "name" not in config:
        return where
    return f"layer {config['name']}"


def _object_problems(value: Mapping[str, Any], names: FileNames) -> Iterator[str]:
    """What is wrong with the names by which Keras finds a class or function."""
    name, module = str(value["class_name"]), value.get("module")
    known, registered = _CLASSES | names.classes, value.get("registered_name")
    if name == "function":
        name, known = str(value.get("config")), _FUNCTIONS | names.functions
        registered = None if registered == "function" else registered
    if name in _CODE:
        yield _CODE[name]
        return
    # "PACKAGE>NAME" is how registered classes are called; in .h5 files class_name has it too.
    name = name.rpartition(">")[2]
    registered = str(registered or name).rpartition(">")[2]
    if name not in known or registered != name:
        alias = f" (registered as {registered})" if registered != name else ""
        origin = f" of module {module}" if module else ""
        close = close_names(name, known)
        damage = f"{close}; is the file damaged?" if close and name not in known else ""
        yield f"{name!r}{alias}{origin} is no class or function that is known to be safe{damage}"
    elif module is not None and not _is_known_module(str(module), names):
        packages = ", ".join((*_PACKAGES, *names.packages))
        yield f"{name!r} is taken from module {module}, which is not of {packages}"


def _is_known_module(module: str, names: FileNames) -> bool:
    words = module.split(".")
    return words[0] in (*_PACKAGES, *names.packages) and all(re.fullmatch(r"\w+", w) for w in words)


def _is_safe_string(key: str, text: str, names: FileNames) -> bool:
    """Whether a setting that Keras or a method looks up by its text is one of theirs."""
    kind = key.rpartition("_")[2]
    if kind in EVALUATED:
        call = _CALL.fullmatch(text)
        name = call["name"] if call else text
        return name in names.calls or (not call and name in _NAMED_FUNCTIONS)
    if kind in ("initializer", "regularizer", "constraint"):
        return text.replace("_", "").lower() in _SETTING_NAMES
    return True
