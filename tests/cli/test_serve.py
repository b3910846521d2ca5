"""kq anytime serve and kq anytime run --next, on stages of random weights."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from keras_quant.anytime.server import StageServer
from keras_quant.cli.main import main
from keras_quant.errors import PeerError
from keras_quant.jobs.serve_stages import ServeSettings, stage_server
from keras_quant.runs.progress import Progress
from tests.anytime.served import answering
from tests.staged_runs import make_staged_run

QUIET = Progress(quiet=True)


def kq(*words: str) -> Result:
    return CliRunner().invoke(main, ["anytime", *words])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_staged_run(tmp_path_factory.mktemp("models") / "run")


@contextmanager
def serving(run: Path, **different: Any) -> Iterator[StageServer]:
    settings = ServeSettings(listen="127.0.0.1:0", **different)
    with answering(stage_server(run, settings, progress=QUIET)) as server:
        yield server


@pytest.fixture(scope="module")
def server(run: Path) -> Iterator[StageServer]:
    with serving(run) as server:
        yield server


def answered(run: Path, *words: str, images: tuple[str, ...] = ("--dataset", "digits")) -> Any:
    deadline = ("--deadline-ms", "1e4", "--images", "5", "--json")
    result = kq("run", str(run), *images, *deadline, *words)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_stages_elsewhere_answer_as_those_here(run: Path, server: StageServer) -> None:
    here = answered(run)
    there = answered(run, "--next", str(server.address))
    assert [one["logits"] for one in there["answers"]] == [one["logits"] for one in here["answers"]]
    assert {one["reason"] for one in there["answers"]} == {"last"}
    assert here["elsewhere"] is None and len(there["stage_times"]) == 1
    found = there["elsewhere"]
    # 6 x 6 x 8 codes of 4 bits; and 8 x 8 pixels.
    assert (found["codes_bytes"], found["raw_bytes"], found["first"]) == (144, 64, 2)
    (way,) = found["ways"]
    assert way["images"] == 5 and 144 < way["mean_bytes"] < 144 + 120


@pytest.mark.slow
def test_views_are_sent_together(run: Path, server: StageServer, tmp_path: Path) -> None:
    views = [str(tmp_path / f"{side}.npz") for side in ("left", "right")]
    rng = np.random.default_rng(0)
    for path in views:
        np.savez(path, x_train=rng.integers(0, 255, (2, 8, 8, 1), np.uint8))
    words = ("--view", views[1], "--aggregate", "max")
    here = answered(run, *words, images=(views[0],))
    there = answered(run, *words, "--next", str(server.address), images=(views[0],))
    assert [one["logits"] for one in there["answers"]] == [one["logits"] for one in here["answers"]]
    assert (there["views"], there["elsewhere"]["codes_bytes"]) == (2, 2 * 144)
    alone = [answered(run, images=(path,))["answers"][1]["logits"] for path in views]
    assert here["answers"][1]["logits"] == np.max(alone, axis=0).tolist()


def test_tables_say_what_was_sent(run: Path, server: StageServer) -> None:
    words = ("--dataset", "digits", "--deadline-ms", "1e4", "--images", "3")
    shown = kq("run", str(run), *words, "--next", str(server.address))
    assert f"{server.address}, stage 2" in shown.stdout
    assert re.search("its codes, packed +144", shown.stdout)
    assert "bytes sent" in shown.stdout and "takes" in shown.stderr


def test_other_weights_are_refused(tmp_path: Path, server: StageServer) -> None:
    other = make_staged_run(tmp_path / "other", seed=1)
    words = ("--dataset", "digits", "--deadline-ms", "5", "--next", str(server.address))
    result = kq("run", str(other), *words)
    assert result.exit_code == 1 and "has another net: stages 1, 2 differ" in result.stderr


def test_a_device_needs_its_own_stages_alone(tmp_path: Path, server: StageServer) -> None:
    device = make_staged_run(tmp_path / "device")
    (device / "export/stages/stage2.tflite").unlink()
    assert answered(device, "--next", str(server.address))["answers"][0]["exit"] == 1


def test_what_was_answered_is_told_at_the_end(run: Path) -> None:
    words = ("serve", str(run), "--listen", "127.0.0.1:0", "--seconds", "0.1")
    result = kq(*words)
    assert result.exit_code == 0, result.output
    assert re.search(r"listening on 127.0.0.1:\d+: stage 2 of 2 of .*, tflite", result.stderr)
    assert "bytes received" in result.stdout
    done = json.loads(kq(*words, "--json").stdout)
    assert (done["asked"], done["endings"], done["refused"], done["tries"]) == (0, [], 0, 0)


@pytest.mark.slow
def test_who_listens_to_all_is_warned(run: Path) -> None:
    result = kq("serve", str(run), "--listen", "0.0.0.0:0", "--seconds", "0.1")
    assert "can be reached by other machines: nothing is encrypted" in result.stderr


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("serve", "RUN", "--stages", "1"), 2, "of these 2 stages 2 to 2 are allowed"),
        (("serve", "RUN", "--stages", "2-3"), 2, "--stages '2-3': write one"),
        (("serve", "RUN", "--stages", "two"), 2, "as in 2-3"),
        (("serve", "RUN", "--next", "127.0.0.1:1"), 2, "stage 2 is the last"),
        (("serve", "RUN", "--listen", "here"), 2, "--listen 'here' is no address"),
        (("serve", "RUN", "--timeout-ms", "0"), 2, "--timeout-ms is 0; a number above 0"),
        (("serve", "RUN", "--timeout-ms", "1e30"), 2, "--timeout-ms is 1e+30; a number above 0"),
        (("serve", "RUN", "--listen", "a..b:1"), 2, "--listen 'a..b:1' is no address"),
        (("serve", "RUN", "--seconds", "0"), 2, "--seconds is 0; a number above 0"),
        (("serve", "NOWHERE"), 1, "no such run folder"),
        (("run", "RUN", "--next", "127.0.0.1:1"), 1, "127.0.0.1:1: cannot be reached (Connection"),
        (("run", "RUN", "--next", "9000"), 2, "--next '9000' is no address"),
        (("run", "RUN", "--timeout-ms", "-1"), 2, "--timeout-ms is -1; a number above 0"),
        (("run", "RUN", "--timeout-ms", "nan"), 2, "--timeout-ms is nan; a number above 0"),
        (("run", "RUN", "--aggregate", "mean"), 2, "--aggregate 'mean' is not known"),
        (("run", "RUN", "--view", "FEW"), 1, "few.npz: has 3 images, and not 359 as digits"),
        (("run", "RUN", "--view", "OTHER"), 1, "of its labels are not those of digits"),
    ],
)
def test_bad_input_is_told(
    run: Path, tmp_path: Path, words: tuple[str, ...], code: int, message: str
) -> None:
    few, other = tmp_path / "few.npz", tmp_path / "other.npz"
    np.savez(few, x_train=np.zeros((3, 8, 8, 1), np.uint8))
    y = np.arange(359) % 10
    x = np.zeros((359, 8, 8, 1), np.uint8)
    np.savez(other, x_train=x[:300], y_train=y[:300], x_test=x[300:], y_test=y[300:])
    paths = {"RUN": run, "NOWHERE": run / "nowhere", "FEW": few, "OTHER": other}
    given = [str(paths.get(word, word)) for word in words]
    more = ("--dataset", "digits", "--deadline-ms", "1e4") if words[0] == "run" else ()
    result = kq(*given, *more)
    assert (result.exit_code, message in result.output) == (code, True), result.output


@pytest.mark.slow
def test_device_edge_and_cloud_answer_as_one_machine(tmp_path: Path) -> None:
    run = make_staged_run(tmp_path / "run", exits=3)
    here = answered(run)
    with (
        serving(run, stages="3") as cloud,
        serving(run, next_address=str(cloud.address)) as edge,
    ):
        there = answered(run, "--next", str(edge.address))
        alone = answered(run, "--next", str(cloud.address))
        with pytest.raises(PeerError, match="goes on with stage 2; stage 3 is needed"):
            stage_server(
                run,
                ServeSettings(listen="127.0.0.1:0", next_address=str(edge.address)),
                progress=QUIET,
            )
    for done in (there, alone):
        assert [one["logits"] for one in done["answers"]] == [
            one["logits"] for one in here["answers"]
        ]
        assert {one["exit"] for one in done["answers"]} == {2}
    to_edge, to_cloud = there["elsewhere"]["ways"]
    assert to_edge["images"] == to_cloud["images"] == 5
    # 6 x 6 x 8 and 4 x 4 x 8 codes of 4 bits.
    assert to_edge["mean_bytes"] > 144 and 64 < to_cloud["mean_bytes"] < 64 + 120
    assert len(alone["elsewhere"]["ways"]) == 1 and alone["elsewhere"]["codes_bytes"] == 64


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_process_serves_until_it_is_asked_to_end(run: Path, how: signal.Signals) -> None:
    words = ("anytime", "serve", str(run), "--listen", "127.0.0.1:0", "--json")
    with subprocess.Popen(
        [sys.executable, "-m", "keras_quant", *words],
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        match = re.search(r"listening on (\S+): stage 2 of 2", line)
        assert match, line
        assert len(answered(run, "--next", match[1])["answers"]) == 5
        process.send_signal(how)
        output, _ = process.communicate(timeout=30)
    done = json.loads(output)
    assert (process.returncode, done["asked"], done["tries"]) == (0, 5, 110)
    assert done["received_bytes"] > 144 * done["asked"]
