"""Exactness on other processors: codes of exported files under qemu-user against the reference.

Files are those of exported runs; without any, small nets of the zoo, with random weights and
calibrated on digits, are written here. Each file, and a probe that gives the codes of all its
layers, is run on this machine and on each processor of `emulated_processors`: x86-64 without
VNNI, and aarch64 with and without dot products. Emulation shows what kernels answer, never how
fast. Files whose metadata name session options are run without them, too: that is reported, and
not judged.

    python benchmarks/portability.py --set-up        # downloads qemu and Python, then runs
    python benchmarks/portability.py models/digits-cnn-w4a4

Goal: 0 codes differ on every processor. Exit code 3 where some do.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from emulated_processors import CACHE, PROCESSORS, SET_UP_OPTION, Cache
from emulated_runner import Emulator, emulate, emulated, without_options
from emulated_setup import set_up
from exported_nets import ExportedNet, read_run, write_nets
from results import argument_parser

from keras_quant.cli.output import print_table
from keras_quant.errors import KerasQuantError, ParityError
from keras_quant.files import write_json
from keras_quant.proof.formats import FORMATS, Format
from keras_quant.proof.parity import Parity, prove
from keras_quant.runs.progress import Progress

NETS = ("cnn", "resnet8", "ds_cnn")
BITS = ("w4a4", "w2a2", "w4a8", "w8a8", "w1a4")
HERE = "this machine"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What was found of a file on a processor.

    Attributes:
        required: whether the file has to be exact there: not without the options it names.
    """

    file: str
    processor: str
    parity: Parity
    required: bool = True


def main() -> None:
    """Proves each file on each processor."""
    parser = argument_parser(__doc__)
    parser.add_argument("runs", nargs="*", type=Path, help="folders of exported runs")
    parser.add_argument("--nets", nargs="*", default=NETS, help="of the zoo, without runs")
    parser.add_argument("--bits", nargs="*", default=BITS, help="of the nets")
    parser.add_argument("--images", type=int, default=64, help="test images compared")
    parser.add_argument(
        "--processors", nargs="*", default=[*PROCESSORS], choices=PROCESSORS, help="to emulate"
    )
    parser.add_argument("--cache", type=Path, default=CACHE.root, help="folder of downloads")
    parser.add_argument(SET_UP_OPTION, action="store_true", help="download what is missing")
    arguments = parser.parse_args()
    progress, cache = Progress(), Cache(arguments.cache.absolute())
    proofs: list[Proof] = []
    try:
        if arguments.set_up:
            set_up(cache, progress)
        with ExitStack() as stack:
            processors = [PROCESSORS[name] for name in arguments.processors]
            emulators = [stack.enter_context(emulate(each, cache)) for each in processors]
            runs = (read_run(run, arguments.images) for run in arguments.runs)
            made = write_nets(arguments.nets, arguments.bits, arguments.images)
            for net in runs if arguments.runs else made:
                progress.say(f"proving {net.name}")
                proofs += prove_everywhere(net, emulators)
        show(proofs)
        if arguments.json is not None:
            write_json(arguments.json, proofs)
        judge(proofs)
    except KerasQuantError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def prove_everywhere(net: ExportedNet, emulators: Sequence[Emulator]) -> Iterator[Proof]:
    """Compares each file, and its probe, with the reference: here and on each processor."""
    for name, content in net.files.items():
        form, file = FORMATS[name], f"{net.name} {name}"
        yield Proof(file=file, processor=HERE, parity=_parity(net, form, content))
        for emulator in emulators:
            processor = emulator.processor
            parity = _parity(net, emulated(form, emulator), content)
            yield Proof(file=file, processor=processor.name, parity=parity)
            if name == "onnx" and without_options(content) != content:
                plain = _parity(net, emulated(form, emulator, keeps_options=False), content)
                yield Proof(
                    file=f"{file}, options ignored",
                    processor=processor.name,
                    parity=plain,
                    required=False,
                )


def _parity(net: ExportedNet, form: Format, content: bytes) -> Parity:
    inputs = {net.graph.inputs[0]: net.images}
    return prove(net.graph, form, content, inputs, batch_size=len(net.images))


def show(proofs: Sequence[Proof]) -> None:
    """Prints a line for each file and processor."""
    cells = [
        (
            proof.file,
            proof.processor,
            proof.parity.codes_compared,
            proof.parity.codes_different,
            proof.parity.first_different or "",
            f"{proof.parity.difference:.1e}",
            f"{proof.parity.top1_agreement:.2%}",
        )
        for proof in proofs
    ]
    columns = ("file", "processor", "codes compared", "codes different", "first different")
    print_table((*columns, "difference", "top-1"), cells)


def judge(proofs: Sequence[Proof]) -> None:
    """Checks that every file is exact wherever it has to be.

    Raises:
        ParityError: names those that are not.
    """
    failed = [f"{p.file} on {p.processor}" for p in proofs if p.required and not p.parity.passed]
    if failed:
        raise ParityError(f"not exact: {'; '.join(failed)}")


if __name__ == "__main__":
    main()
