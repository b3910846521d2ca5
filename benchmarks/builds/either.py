"""What workloads call, by the name that it has in the build at hand."""

from __future__ import annotations

from pathlib import Path

import keras_quant

# An editable install finds modules that this build lacks in the tree that was installed, so that
# an import that fails would not tell.
if (Path(keras_quant.__file__).parent / "jobs").is_dir():
    from keras_quant.jobs.export import export_path, stored_limits
    from keras_quant.model.files import load_model, save_model
    from keras_quant.proof.formats import FORMATS
    from keras_quant.runs.progress import Progress
else:  # before the rooms
    from keras_quant.export import export_path, stored_limits
    from keras_quant.keras_files import load_model, save_model
    from keras_quant.progress import Progress

    from keras_quant.emit import FORMATS

__all__ = ["FORMATS", "Progress", "export_path", "load_model", "save_model", "stored_limits"]
