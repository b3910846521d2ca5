from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("tensorflow")

import against_build
from against_build import WORKLOADS, Build, Workload, call, compare, summarize, unpack

SCRIPT = """
import json, sys
import whose
action, folder, *words = sys.argv[1:]
open(f"{folder}/log", "a").write(f"{whose.NAME} {action} {' '.join(words)}; ")
print("not this line")
counts = [{"figure": "moved", "count": whose.MOVED, "of": 10, "unit": "channels"}]
print(json.dumps({"cpu_s": whose.SECONDS, "wall_s": 1.0, "counts": counts}))
"""


@pytest.fixture
def workload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workload:
    monkeypatch.setattr(against_build, "SCRIPTS", tmp_path)
    (tmp_path / "work.py").write_text(SCRIPT)
    return Workload(name="work", script="work.py", arguments=("a", "b"), at_least=4.0)


def build_of(folder: Path, name: str, *, seconds: float, moved: int) -> Build:
    modules = folder / name / "benchmarks"
    modules.mkdir(parents=True)
    (modules / "whose.py").write_text(f"NAME, SECONDS, MOVED = {name!r}, {seconds}, {moved}")
    return Build(name=name, root=folder / name)


def test_builds_work_in_turn_with_their_own_modules(workload: Workload, tmp_path: Path) -> None:
    old = build_of(tmp_path, "old", seconds=9.0, moved=7)
    new = build_of(tmp_path, "new", seconds=2.0, moved=8)
    cpu, wall, moved = compare(workload, (old, new), tmp_path, rounds=2)
    log = (tmp_path / "log").read_text()
    assert log == "old prepare a b; " + 2 * "old run a b; new run a b; "
    assert (cpu.value, cpu.met, cpu.peer) == (4.5, True, "9.00 s / 2.00 s")
    assert (wall.value, wall.met) == (1.0, None)
    assert (moved.value, moved.at_most, moved.met, moved.peer) == (8, 7, False, "7 of 10")


def test_a_script_that_fails_ends_the_comparison(workload: Workload, tmp_path: Path) -> None:
    (tmp_path / "work.py").write_text("raise SystemExit(3)")
    with pytest.raises(against_build.subprocess.CalledProcessError, match="exit status 3"):
        call(Build(name="x", root=tmp_path), workload, "run", tmp_path)


def test_ratios_are_of_neighbouring_rounds() -> None:
    def record(seconds: float) -> dict:
        return {"cpu_s": seconds, "wall_s": seconds, "counts": []}

    records = {
        "a": [record(s) for s in (4.0, 40.0, 6.0)],
        "b": [record(s) for s in (1.0, 10.0, 1.0)],
    }
    workload = Workload(name="w", script="w.py", arguments=(), at_least=5.0)
    cpu, wall = summarize(workload, records)
    assert (cpu.value, cpu.met, cpu.best) == (4.0, False, 4.0)
    assert wall.met is None
    cpu, wall = summarize(replace(workload, by="wall"), records)
    assert (cpu.met, wall.value, wall.met) == (None, 4.0, False)


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_every_workload_has_its_script(workload: Workload) -> None:
    assert (against_build.SCRIPTS / workload.script).is_file()


def test_names_of_workloads_are_their_own() -> None:
    names = [workload.name for workload in WORKLOADS]
    assert len(set(names)) == len(names)


@pytest.mark.slow
def test_this_build_lowers_what_it_prepared(tmp_path: Path) -> None:
    workload = Workload(name="w", script="lowering.py", arguments=("ds_cnn", "w8a8"))
    build = Build(name="this", root=against_build.ROOT)
    call(build, workload, "prepare", tmp_path)
    record = json.loads(call(build, workload, "run", tmp_path))
    moved, different = record["counts"]
    assert 0 < moved["count"] <= moved["of"]
    assert (different["count"], different["of"] > 0) == (0, True)


def test_another_commit_is_unpacked_beside(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    repository.mkdir()

    def git(*words: str) -> None:
        who = ("-c", "user.name=kq", "-c", "user.email=kq@example.org")
        subprocess.run(["git", "-C", str(repository), *who, *words], check=True)

    git("init", "--quiet")
    for version in ("old", "new"):
        (repository / "whose.py").write_text(version)
        git("add", "whose.py")
        git("commit", "--quiet", "--message", version)
    build = unpack("HEAD~1", tmp_path / "build", repository=repository)
    assert (build.name, (build.root / "whose.py").read_text()) == ("HEAD~1", "old")
