"""What a stopped run had learned is found again, and by no other run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.files import FileError  # noqa: E402
from keras_quant.graph.ir import Weight  # noqa: E402
from keras_quant.jobs.kept_rounding import KeptOnDisk, forget, key_of  # noqa: E402
from keras_quant.prepare.adjust.learn import Learning  # noqa: E402
from keras_quant.prepare.adjust.reconstruct import Finding, reconstruct  # noqa: E402
from tests.prepare.adjust.test_reconstruct import X, net, quantized  # noqa: E402

FINDING = Finding(
    weight=Weight(values=np.array([[1, -2]], np.int16), scale=np.array([[0.5, 2.0]]), bits=4),
    added=np.array([0.25, -1.0]),
)


def test_findings_are_read_as_they_were_written(tmp_path: Path) -> None:
    kept = KeptOnDisk(tmp_path, "key")
    assert kept.known(["a", "b"]) is None
    bare = Finding(weight=None, added=np.zeros(3))
    kept.keep({"a": FINDING, "b": bare})
    found = KeptOnDisk(tmp_path, "key").known(["a", "b"])
    assert found is not None and found["b"].weight is None
    weight, wanted = found["a"].weight, FINDING.weight
    assert weight is not None and wanted is not None and weight.bits == 4
    np.testing.assert_array_equal(weight.values, wanted.values)
    np.testing.assert_array_equal(weight.scale, wanted.scale)
    np.testing.assert_array_equal(found["a"].added, FINDING.added)


def test_other_keys_other_layers_and_damaged_files_are_not_found(tmp_path: Path) -> None:
    KeptOnDisk(tmp_path, "key").keep({"a": FINDING})
    assert KeptOnDisk(tmp_path, "other").known(["a"]) is None
    assert KeptOnDisk(tmp_path, "other").is_of_others
    assert not KeptOnDisk(tmp_path, "key").is_of_others
    assert not KeptOnDisk(tmp_path / "empty", "key").is_of_others
    assert KeptOnDisk(tmp_path, "key").known(["b"]) is None
    (file,) = (tmp_path / "rounding" / "key").iterdir()
    file.write_bytes(file.read_bytes()[:-30])
    assert KeptOnDisk(tmp_path, "key").known(["a"]) is None
    forget(tmp_path)
    assert not any(tmp_path.iterdir())


def test_where_nothing_can_be_written_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "rounding").write_text("in the way")
    with pytest.raises(FileError, match="rounding"):
        KeptOnDisk(tmp_path, "key").keep({"a": FINDING})


@pytest.mark.slow
def test_keys_tell_models_images_and_settings_apart() -> None:
    _, model = quantized(net(), "w3a8")
    settings = {"rounding": "adaround", "steps": 5}
    key = key_of(model, X, settings)
    assert key == key_of(model, X.copy(), dict(settings))
    assert key != key_of(model, X[:5], settings)
    assert key != key_of(model, X, {**settings, "steps": 6})
    model.get_layer("conv1").kernel.assign(0 * model.get_layer("conv1").kernel)
    assert key != key_of(model, X, settings)


class StoppedError(Exception):
    pass


class StopsAtSecond(KeptOnDisk):
    """Ends a walk when its second unit is done, before that is kept."""

    def keep(self, findings: Mapping[str, Finding]) -> None:
        if "conv2" in findings:
            raise StoppedError
        super().keep(findings)


@pytest.mark.slow
def test_a_walk_that_was_stopped_goes_on_to_what_it_would_have_ended_in(tmp_path: Path) -> None:
    source = net()
    how = {"rounding": "adaround", "learning": Learning(steps=20)}
    planned, whole = quantized(source, "w3a8")
    reconstruct(planned, source, whole, [X], **how)
    _, stopped = quantized(source, "w3a8")
    with pytest.raises(StoppedError):
        reconstruct(planned, source, stopped, [X], kept=StopsAtSecond(tmp_path, "key"), **how)
    _, again = quantized(source, "w3a8")
    found = reconstruct(planned, source, again, [X], kept=KeptOnDisk(tmp_path, "key"), **how)
    assert found.restored == 1
    for one, other in zip(whole.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
