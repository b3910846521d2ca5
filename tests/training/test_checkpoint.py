from __future__ import annotations

import math

import numpy as np
import pytest

from keras_quant.errors import RunError
from keras_quant.files import FileError
from keras_quant.runs.history import Epoch, best
from keras_quant.training import checkpoint
from keras_quant.training.checkpoint import Checkpoint, load, save


def epoch(number: int, val_score: float = 0.5, **changes: float) -> Epoch:
    values = {"loss": 1.0, "score": 0.5, "val_loss": 1.0, "learning_rate": 0.1, "seconds": 2.0}
    return Epoch(epoch=number, val_score=val_score, **(values | changes))


def sample() -> Checkpoint:
    rng = np.random.default_rng(0)
    # More than ten arrays, so that their order in the file is not the order of their digits.
    arrays = [rng.normal(size=(n, 2)).astype(np.float32) for n in range(12)]
    return Checkpoint(
        weights=arrays,
        best_weights=arrays[::-1],
        optimizer=[np.int64(17), np.float32(0.1), *arrays],
        history=(epoch(1, loss=math.nan), epoch(2, val_score=1 / 3)),
    )


def test_checkpoint_survives_its_file(tmp_path) -> None:
    save(sample(), tmp_path)
    found = load(tmp_path)
    for kind in ("weights", "best_weights", "optimizer"):
        pairs = zip(getattr(found, kind), getattr(sample(), kind), strict=True)
        for a, b in pairs:
            np.testing.assert_array_equal(a, b)
            assert a.dtype == b.dtype
    assert math.isnan(found.history[0].loss)
    assert found.history[1:] == sample().history[1:]


def test_folder_without_a_checkpoint_has_none(tmp_path) -> None:
    assert load(tmp_path) is None


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_cut_file_is_refused_with_the_remedy(tmp_path, share: float) -> None:
    save(sample(), tmp_path)
    path = tmp_path / checkpoint.FILE_NAME
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(RunError, match=r"checkpoint\.npz: broken .*train again with --overwrite"):
        load(tmp_path)


def test_writing_that_fails_leaves_the_last_checkpoint(tmp_path, monkeypatch) -> None:
    save(sample(), tmp_path)

    def full(stream, **arrays) -> None:
        stream.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises((OSError, FileError), match="No space left"):
        save(sample(), tmp_path)
    assert len(load(tmp_path).history) == 2
    assert [path.name for path in tmp_path.iterdir()] == [checkpoint.FILE_NAME]


def test_best_epoch_is_the_later_one_of_equals() -> None:
    history = (epoch(1, 0.8), epoch(2, 0.9), epoch(3, 0.9), epoch(4, 0.7))
    assert best(history).epoch == 3
