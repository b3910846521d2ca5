"""Every `kq ...` that a reader meets is one that kq takes: its options, and what is given for them.

Nothing is run: commands are parsed as click parses them, without looking for files.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import shlex
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

from keras_quant.anytime.rules import RULES, SPARSITY_RULES
from keras_quant.bench.runtimes import RUNTIMES
from keras_quant.calibration.choose import CALIBRATORS
from keras_quant.cli.main import COMMANDS, main
from keras_quant.data.catalog import DATASETS
from keras_quant.errors import KerasQuantError
from keras_quant.methods import METHODS
from keras_quant.preprocessing import parse_preprocessing
from keras_quant.proof.formats import FORMATS
from keras_quant.runs.index import sorted_by, where
from keras_quant.schemes.bits import parse_bits, with_overrides
from keras_quant.schemes.file import preset_names
from keras_quant.schemes.scheme import Scheme
from keras_quant.search.budget import parse_budget
from keras_quant.search.harms import HARMS
from keras_quant.targets.jetson import BOARDS
from keras_quant.targets.tensorrt import VERSIONS
from keras_quant.training.optimizer_settings import OPTIMIZERS, SCHEDULES
from keras_quant.zoo.catalog import MODELS

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
    *sorted(ROOT.glob("docs/*.md")),
    *(ROOT / name / "README.md" for name in ("benchmarks", "findings")),
]
NOTEBOOKS = sorted(ROOT.glob("notebooks/*.ipynb"))
MODULES = sorted(
    path for part in ("keras_quant", "benchmarks") for path in ROOT.glob(f"{part}/**/*.py")
)

FREE = {
    *("--exits", "--option", "--distill", "--loss-weights", "--slim", "--workers", "--name"),
    *("--weights", "--view", "--next", "--listen", "--stages", "--seeds", "--address"),
    *("--resources", "--sizes", "--input-shape", "--host", "--min-accuracy", "--title", "--layer"),
    *("--batch", "--threads", "--fail-if-slower", "--float", "--train", "--width", "--latency"),
    *("--power-mode", "--scale"),
}
"""Options of words that are the reader's own, or numbers; the others take what is listed below."""

NAMED: dict[str, Collection[str]] = {
    "--method": (*METHODS, "float"),
    "--methods": (*METHODS, "ptq"),
    "--optimizer": OPTIMIZERS,
    "--schedule": SCHEDULES,
    "--runtime": RUNTIMES,
    "--rule": (*RULES, *SPARSITY_RULES),
    "--format": FORMATS,
    "--to": FORMATS,
    "--by": HARMS,
    "--board": BOARDS,
    "--trt": VERSIONS,
}
"""What options take, by the library's own tables."""

BY_HELP = {
    *(
        "--first-last",
        "--sums",
        "--precision",
        "--strategy",
        "--equalize",
        "--data",
        "--rounding",
        "--bias",
    ),
    *("--split", "--kind", "--pack", "--input", "--head", "--cost", "--aggregate", "--cut"),
    *("--ways", "--target"),
}
"""Options that take words which their help lists."""


def _among(text: str, known: Collection[str]) -> None:
    if text not in known:
        raise ValueError(f"known are {', '.join(known)}")


def _named_or_file(text: str, known: Collection[str]) -> None:
    """Raises for a word that is no name, and does not look like a path."""
    if not re.search(r"[./:]", text):
        _among(text.partition("+")[0], known)


READ: dict[str, Callable[[str], object]] = {
    **dict.fromkeys(("--bits", "--weight-bits", "--activation-bits"), parse_bits),
    **dict.fromkeys(("--progressive", "--nested"), parse_bits),
    "--calibrator": lambda text: _among(text.partition(":")[0], CALIBRATORS),
    "--model": lambda text: _named_or_file(text, MODELS),
    "--dataset": lambda text: _named_or_file(text, DATASETS),
    "--scheme": lambda text: _named_or_file(text, preset_names()),
    "--preprocess": parse_preprocessing,
    "--budget": parse_budget,
    "--set": lambda text: with_overrides(Scheme(name="s", rules=()), [text]),
    "--sort": lambda text: sorted_by([], text),
    "--where": lambda text: where([], dict([text.split("=")])),
}
"""What reads the words of an option, and raises for those that it does not take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A command as a reader meets it.

    Attributes:
        words: behind kq.
        whole: whether it stands on a line of its own, to be typed; else it is named in a text,
            where arguments may be missing.
    """

    words: tuple[str, ...]
    whole: bool


def in_text(text: str) -> Iterator[Shown]:
    """The commands of a page, or of a docstring: in its indented or fenced lines, and in `...`."""
    fenced = False
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif (fenced or line.startswith("  ")) and re.match(r" *(?:kq|for|cd|python3) ", line):
            yield from _in_line(line, whole=True)
    for quoted in re.findall(r"`(kq\s[^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
        yield from _in_line(" ".join(quoted.split()), whole=False)


def _in_line(line: str, *, whole: bool) -> Iterator[Shown]:
    known = re.sub(r"\$\([^)]*\)", "FILE", line.partition("  #")[0])
    for part in re.split(r"; |&&", known):
        found = re.match(r"\s*(?:do )?(?:\S*/)?kq ((?![-.]).*)", part)
        if found and (words := shlex.split(found[1].rstrip("; "), comments=True)):
            yield Shown(words=tuple(words), whole=whole)


def in_notebook(path: Path) -> Iterator[Shown]:
    """Those of a notebook's prose, and those that its cells call."""
    for cell in json.loads(path.read_text("utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            yield from in_text(source)
            continue
        for function, line in re.findall(r'\b(kq|picture)\(f?"([^"]+)"', source):
            words = (["plot"] if function == "picture" else []) + shlex.split(line)
            if "{line}" not in words:  # the function that calls kq plot
                yield Shown(words=tuple(words), whole=True)


def in_module(path: Path) -> Iterator[Shown]:
    """Those of a module's docstrings and messages."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from in_text(inspect.cleandoc(node.value))


def problems(shown: Shown) -> list[str]:
    """What kq would not take of a command."""
    name, *words = shown.words
    if name not in COMMANDS:
        return [f"no command {name}"]
    command = main.get_command(click.Context(main), name)  # type: ignore[attr-defined]
    if isinstance(command, click.Group):
        if not words:
            return [] if not shown.whole else [f"{name}: a command of it is missing"]
        name, *words = words
        if name not in command.commands:
            return [f"no command {name}"]
        command = command.commands[name]
    words = [
        word
        for before, word in zip(["", *words], words, strict=False)
        if word != "..." and (before.startswith("--") or not word.startswith("{"))
    ]
    context = click.Context(command, **command.context_settings)
    try:
        given, rest, _ = command.make_parser(context).parse_args(words)
    except click.BadOptionUsage as error:  # of a text that names an option alone
        return [] if not shown.whole and "requires an argument" in error.message else [str(error)]
    except click.UsageError as error:
        return [error.message]
    found = [f"{rest} is too much"] if rest and shown.whole else []
    for parameter in command.params:
        value = given.get(parameter.name)
        values = value if isinstance(value, list | tuple) else [value]
        texts = [one for one in values if isinstance(one, str)]
        if not texts and shown.whole and parameter.required:
            found.append(f"{parameter.name} is missing")
        found += [said for text in texts for said in _refused(parameter, text)]
    if name == "train-ensemble":
        for _, *of_train in (words for words in given.values() if isinstance(words, tuple)):
            found += problems(Shown(words=("train", *of_train), whole=shown.whole))
    return found


def _refused(parameter: click.Parameter, text: str) -> list[str]:
    """Why a value is none of its parameter; nothing for paths and for words to be replaced."""
    if re.search(r"\b[A-Z]{1,}\b(?!\d)", text) or "{" in text:
        return []
    option = parameter.opts[0]
    try:
        if isinstance(parameter, click.Option) and parameter.type is click.STRING:
            for part in text.split(","):
                _check_word(parameter, option, part, whole=text)
        elif not isinstance(parameter.type, click.Path):
            parameter.type.convert(text, parameter, None)
    except (KerasQuantError, ValueError, click.BadParameter) as error:
        return [f"{option} {text}: {error}"]
    return []


def _check_word(parameter: click.Option, option: str, word: str, *, whole: str) -> None:
    if option in NAMED:
        _among(word, NAMED[option])
    elif option in BY_HELP:
        _among(word, re.findall(r"[\w-]+", parameter.help or ""))
    elif option in READ:
        READ[option](whole if option in ("--preprocess", "--set") else word)


def _commands() -> Iterator[click.Command]:
    """All commands; of groups, each of theirs."""
    for name in COMMANDS:
        command = main.get_command(click.Context(main), name)  # type: ignore[attr-defined]
        if isinstance(command, click.Group):
            yield from command.commands.values()
        else:
            yield command


OPTIONS = [
    parameter
    for command in _commands()
    for parameter in command.params
    if isinstance(parameter, click.Option)
]
OF_WORDS = sorted({one.opts[0] for one in OPTIONS if one.type is click.STRING})
OF_OTHERS = {
    *("--help", "--best", "--calib", "--exportLayerInfo", "--exportProfile", "--exposeDMA"),
    *("--int8", "--noTF32", "--profilingVerbosity=detailed", "--stronglyTyped"),
    *(
        found
        for path in MODULES
        for found in re.findall(r'"(--[a-z0-9-]+)"', path.read_text("utf-8"))
    ),
}
"""Options of click, of trtexec, and of our scripts."""


def of_options(text: str) -> Iterator[str]:
    """What kq does not take of the options that a page names without a command, as `--bits 4`."""
    for quoted in re.findall(r"`(--[a-z][^`]*)`", text):
        words = [
            word
            for typed in shlex.split(" ".join(quoted.split()))  # --train takes options in quotes
            for word in (typed.split() if typed.startswith("--") else [typed])
        ]
        for option, value in zip(words, [*words[1:], "--"], strict=True):
            known = [one for one in OPTIONS if option in (*one.opts, *one.secondary_opts)]
            if option.startswith("--") and not known and option not in OF_OTHERS:
                yield f"no command has {option}"
            refused = [_refused(one, value) for one in known if not one.is_flag]
            if refused and all(refused) and not value.startswith("--"):
                yield refused[0][0]


def _texts(parts: Sequence[Path], read: Callable[[Path], Iterator[Shown]]) -> list[object]:
    return [
        pytest.param(shown, id=path.relative_to(ROOT).as_posix())
        for path in parts
        if (shown := list(read(path)))
    ]


@pytest.mark.parametrize(
    "shown",
    [
        *_texts(PAGES, lambda path: in_text(path.read_text("utf-8"))),
        *_texts(NOTEBOOKS, in_notebook),
        *_texts(MODULES, in_module),
    ],
)
def test_kq_takes_every_command_that_is_shown(shown: list[Shown]) -> None:
    wrong = {" ".join(one.words): found for one in shown if (found := problems(one))}
    assert wrong == {}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_options_that_pages_name_are_there_and_take_what_is_said(path: Path) -> None:
    assert list(of_options(path.read_text("utf-8"))) == []


def test_options_that_kq_does_not_have_or_take_are_found() -> None:
    text = "`--bits 4`, `--no-augment`, `--raunding descent`, `--pack\nsmall --images N`, `--int8`"
    raunding, small = of_options(text)
    assert raunding == "no command has --raunding"
    assert small.startswith("--pack small: known are ")


@pytest.mark.parametrize("option", OF_WORDS)
def test_it_is_known_what_an_option_of_words_takes(option: str) -> None:
    """So that a new one is checked in what readers are shown, or is free on purpose."""
    assert sum(option in known for known in (FREE, NAMED, BY_HELP, READ)) == 1


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("kq train --bit 4", "No such option"),
        ("kq trian --bits 4", "no command trian"),
        ("kq anytime rnu models/run", "no command rnu"),
        ("kq train --bits w9a4", "bits are 1 to 8"),
        ("kq train --method qat", "known are qkeras"),
        ("kq quantize models/base --rounding desent", "known are Of, kernels, nearest, descent"),
        ("kq plot accuracy-bit models", "is not one of"),
        ("kq export models/run --to tflite,onx", "known are tflite"),
        ("kq bench m.tflite --loads 3", "not in the range"),
        ("kq import-results", "folder is missing"),
        ("kq boards orin-nano nano", "is too much"),
        ("kq runs list --where modle=cnn", "runs are chosen by"),
        ("kq anytime train-ensemble bagging --member 3 --bits 4", "No such option"),
        ("kq anytime train-ensemble bagging --bits 4 --epoch 3", "No such option"),
    ],
)
def test_a_command_that_kq_would_not_take_is_found(line: str, told: str) -> None:
    (shown,) = in_text(f"    {line}    # as a comment")
    assert told in "; ".join(problems(shown))


def test_commands_are_found_in_lines_and_in_texts() -> None:
    text = (
        "`kq\nruns list` and `kq train\n--bits 4`:\n\n    cd x && .venv/bin/kq doctor; kq models\n"
    )
    assert [(" ".join(one.words), one.whole) for one in in_text(text)] == [
        ("doctor", True),
        ("models", True),
        ("runs list", False),
        ("train --bits 4", False),
    ]
