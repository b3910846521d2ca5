"""SavedModel folders that a Keras 2 model was saved as: its layers and its variables.

Beside the TensorFlow functions of saved_model.pb, which are not looked at, Keras 2 writes its
layers' configurations (keras_metadata.pb) and all variables as a checkpoint
(variables/variables.*). The model is built of the former, and so loads as a .keras file does: no
code of the folder is run, and no function of it is called.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from keras_quant.tf import keras, tf

METADATA = "keras_metadata.pb"
_CHECKPOINT = Path("variables", "variables")
_MODELS = frozenset({"_tf_keras_network", "_tf_keras_sequential", "_tf_keras_model"})


def link_problems(folder: Path) -> list[str]:
    """Lists links in a folder, which may lead to any file; SavedModel has none."""
    links = (entry for entry in sorted(folder.rglob("*")) if entry.is_symlink())
    return [f"{link.relative_to(folder)} is a link, to {link.readlink()}" for link in links]


def read_metadata(folder: Path) -> tuple[str, str]:
    """Reads what a SavedModel says of its Keras model.

    Returns: JSON, of which class_name and config are the model's; and why there is no Keras model
        in it, "" where there is.
    """
    file = folder / METADATA
    if not file.is_file():
        return "", (
            f"it holds TensorFlow functions, and no Keras layers: {METADATA} is missing, as where "
            "tf.saved_model.save or Keras 3's model.export wrote it"
        )
    metadata = keras.protobuf.saved_metadata_pb2.SavedMetadata.FromString(file.read_bytes())
    root = next((node for node in metadata.nodes if node.node_path == "root"), None)
    if root is None or root.identifier not in _MODELS:
        kind = "nothing" if root is None else root.identifier
        return "", f"{METADATA} says that it holds {kind}, which is no Keras model"
    return root.metadata, ""


def as_config(metadata: Any) -> dict[str, Any]:
    """The configuration of a model, as an .h5 file has it.

    Args:
        metadata: parsed JSON of `read_metadata`.
    Raises:
        KeyError: it has no class or no configuration.
    """
    return {name: _plain(metadata[name]) for name in ("class_name", "config")}


def stored_numbers(folder: Path) -> int:
    """How many numbers the checkpoint of a SavedModel has, at most.

    Raises:
        tf.errors.OpError: it is missing or broken.
    """
    reader = tf.train.load_checkpoint(str(folder / _CHECKPOINT))
    shapes = reader.get_variable_to_shape_map().values()
    claimed = sum(int(tf.TensorShape(shape).num_elements() or 0) for shape in shapes)
    held = sum(part.stat().st_size for part in (folder / _CHECKPOINT.parent).iterdir())
    return min(claimed, held)


def set_saved_weights(model: keras.Model, folder: Path) -> None:
    """Gives a model the variables of a SavedModel.

    Raises:
        AssertionError, ValueError, tf.errors.OpError: the checkpoint lacks some, or has others.
    """
    status = tf.train.Checkpoint(root=model).read(str(folder / _CHECKPOINT))
    status.assert_existing_objects_matched()
    status.expect_partial()  # optimizers and metrics stay behind


def _plain(value: Any) -> Any:
    """JSON with tuples as lists, for which it has an object of its own."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("class_name") == "__tuple__":
        return _plain(value["items"])
    return {name: _plain(item) for name, item in value.items()}
