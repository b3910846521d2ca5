"""Running files in another process, as on another processor; here it is this machine's Python."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import emulated_runner
import emulated_setup
import onnx
import pytest
from emulated_processors import PROCESSORS, Cache, Processor, command, environment
from emulated_runner import Emulator, emulate, emulated, without_options
from emulated_setup import check_machine, set_up

from keras_quant.emit.onnx_x86.emit import emit_onnx_x86
from keras_quant.emit.onnx_x86.weights import PRECISION_OPTION
from keras_quant.errors import ModelError, UsageError
from keras_quant.proof.formats import EXACT_FORMATS, Format
from keras_quant.proof.parity import prove
from keras_quant.runs.progress import Progress
from tests.emit.random_graphs import GraphBuilder, small_classifier

HASWELL, ARM = PROCESSORS["Haswell"], PROCESSORS["cortex-a53"]


@pytest.fixture(scope="module")
def builder() -> GraphBuilder:
    return small_classifier()


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """A worker without qemu."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(emulated_runner, "command", lambda *given: [sys.executable, str(given[-1])])
        with emulate(HASWELL, Cache(tmp_path_factory.mktemp("cache"))) as started:
            yield started


@pytest.mark.slow
@pytest.mark.parametrize("form", EXACT_FORMATS.values(), ids=list(EXACT_FORMATS))
def test_files_are_proven_by_another_process(
    form: Format, emulator: Emulator, builder: GraphBuilder
) -> None:
    graph, images = builder.graph(), builder.images(3)
    content = form.definition.emit(graph)
    there = prove(graph, emulated(form, emulator), content, images)
    here = prove(graph, form, content, images)
    assert there.passed
    assert there.codes_compared == here.codes_compared > 0
    assert (there.kernels, there.versions) == (here.kernels, here.versions)


def test_a_file_that_cannot_be_loaded_there_is_a_model_error(emulator: Emulator) -> None:
    with pytest.raises(ModelError, match="Haswell: ModelError: .* not a TFLite model"):
        emulated(EXACT_FORMATS["tflite"], emulator).definition.runner(b"garbage")


def test_a_process_that_dies_leaves_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dying = [sys.executable, "-c", "import sys; sys.exit('qemu: illegal instruction')"]
    monkeypatch.setattr(emulated_runner, "command", lambda *given: dying)
    with (
        pytest.raises(ModelError, match="exit code 1; qemu: illegal instruction"),
        emulate(HASWELL, Cache(tmp_path)) as emulator,
    ):
        emulator.process.wait()
        emulator.ask(model="model.tflite")


def test_options_ignored_are_no_longer_in_the_file(builder: GraphBuilder) -> None:
    model = onnx.load_model_from_string(emit_onnx_x86(builder.graph()))
    onnx.helper.set_model_props(model, {PRECISION_OPTION: "1"})
    plain = onnx.load_model_from_string(without_options(model.SerializeToString()))
    assert not plain.metadata_props
    assert plain.graph == model.graph


@pytest.mark.parametrize("processor", [HASWELL, ARM], ids=lambda processor: processor.name)
def test_what_is_missing_in_the_cache_is_listed(processor: Processor, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Give --set-up") as raised:
        command(processor, Cache(tmp_path), Path("script.py"))
    assert f"qemu-{processor.architecture}" in str(raised.value)
    assert ("site-packages" in str(raised.value)) == (processor is ARM)


def test_arm_processes_find_arm_packages_behind_the_source(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    source = str(Path(__file__).parents[2])
    assert environment(HASWELL, cache)["PYTHONPATH"] == source
    assert environment(ARM, cache)["PYTHONPATH"] == f"{source}:{cache.site_packages}"


def test_all_that_a_machine_lacks_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emulated_setup.shutil, "which", lambda tool: None)
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    monkeypatch.setattr(emulated_setup, "_KEYRING", Path("/no/keyring.gpg"))
    with pytest.raises(UsageError, match="apt-get .*; dpkg .*riscv64.*/no/keyring.gpg is missing"):
        check_machine()


def test_a_download_that_fails_is_told_and_leaves_nothing_that_looks_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(arguments: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(arguments, 100, "", "Could not resolve deb.debian.org")

    monkeypatch.setattr(emulated_setup, "check_machine", lambda: None)
    monkeypatch.setattr(subprocess, "run", fail)
    cache = Cache(tmp_path)
    with pytest.raises(
        UsageError, match="update failed: Could not resolve .*give the option again"
    ):
        set_up(cache, Progress(quiet=True))
    assert not cache.qemu.exists()
