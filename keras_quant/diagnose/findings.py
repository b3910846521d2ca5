"""What is wrong with a file, layer by layer, and which option of `kq quantize` mends it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from keras_quant.diagnose.contents import (
    FLOAT,
    INTEGER,
    FileContents,
    KernelContents,
    OperatorContents,
)
from keras_quant.diagnose.match import nearest
from keras_quant.diagnose.measures import CodesSeen, Error

LOW_DB = 20.0
"""Below it the noise is more than 1 % of the energy: 8-bit layers have 30 to 45 dB."""
DROP_DB = 6.0
"""Four times the noise of what a layer reads: three quarters of it arise in the layer itself."""
EXACT_DB = 40.0
"""What a layer counts as having read that reads what is better, or the exact input: 8 bits give no
more to values that fill half of their range (6.02 dB a bit, less 12 for the sign and that half)."""

SAME_DB = 100.0
"""From it on values are the same: float32's own rounding has 140 dB and more."""

WRONG_DB = 6.0
"""Below it errors are more than half as large as the values: 2-bit rounding has more."""

_OFF_GAIN, _ALIKE = 0.15, 0.9  # a gain that far from 1, of values that are otherwise alike
_CUT, _CUT_WITHOUT_FLOAT = 0.5, 0.05  # share of the noise; of codes at an end of their grid
_OFFSET = 0.5  # share of the noise that is the mean error of channels
_UNUSED = 0.125  # share of the grid that is used: 3 of 8 bits are left unused
_SPREAD = 16.0  # ranges of channels that far apart leave the least of them 4 bits less
_DEAD = 0.25  # share of channels

SCALE, CUT, OFFSET, RANGE, SPREAD, WIDTH, DEAD, ISLAND, INPUT, BROKEN, NOISE, WRONG = (
    *("scale", "cut off", "offset", "unused range", "channels", "few bits", "dead channels"),
    *("float island", "input range", "broken scale", "noise", "wrong"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One operator of a file and what is known of its values.

    Attributes:
        name: the float layer's, or the tensor's where there is none.
        tensor: what the file calls its output.
        matched: "name", "values", or None where no float layer was found.
        operator: what computes it.
        dtype: of its values.
        error: from float's values; None without them.
        start_db: the least SQNR among what it reads, EXACT_DB at most.
        codes: what its codes were like; None without a grid, or without images.
        is_input: whether it is the model's input, in another form.
        heals: whether all that reads it is well again: beside a large addend, say, a branch's noise
            is small.
    """

    name: str
    tensor: str
    matched: str | None
    operator: OperatorContents
    dtype: str
    error: Error | None = None
    start_db: float | None = None
    codes: CodesSeen | None = None
    is_input: bool = False
    heals: bool = False

    @property
    def drop_db(self) -> float | None:
        """By how much its SQNR is below that of what it reads; None where either is not known."""
        if self.error is None or self.error.sqnr_db is None or self.start_db is None:
            return None
        return max(0.0, self.start_db - self.error.sqnr_db)

    @property
    def breaks(self) -> bool:
        """Whether the values are wrong here that were not before."""
        drop = self.drop_db
        if drop is None or self.error is None or self.error.sqnr_db is None:
            return False
        return drop >= DROP_DB and self.error.sqnr_db < LOW_DB and not self.heals


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that is wrong, or may be.

    Attributes:
        layer: where.
        kind: one of the constants above.
        what: what was found, in figures.
        remedy: what to do.
    """

    layer: str
    kind: str
    what: str
    remedy: str


def start_db(key: str, contents: FileContents, sqnr_db: Mapping[str, float]) -> float:
    """The least SQNR among the nearest tensors in front of one, EXACT_DB at most."""
    reads = {one.output: one.inputs for one in contents.operators}
    found = [sqnr_db[other] for other in nearest(key, reads, sqnr_db)]
    return min([EXACT_DB, *found])


def heals(
    key: str, contents: FileContents, sqnr_db: Mapping[str, float], layer_of: Mapping[str, str]
) -> bool:
    """Whether there are tensors behind one, and the nearest of them that are known are all well.

    Those of its own layer that are not well may be steps on the way, as where codes become reals by
    three operators: then what is behind these counts.

    Args:
        sqnr_db, layer_of: by key, of the tensors that were matched with layers.
    """
    readers: dict[str, list[str]] = {}
    for one in contents.operators:
        for read in one.inputs:
            readers.setdefault(read, []).append(one.output)
    behind = nearest(key, readers, sqnr_db)
    return bool(behind) and all(
        sqnr_db[other] >= LOW_DB
        or (layer_of[other] == layer_of.get(key) and heals(other, contents, sqnr_db, layer_of))
        for other in behind
    )


def first_break(layers: Sequence[Layer]) -> Layer | None:
    """The layer where a file's values come to be wrong; None where they do not."""
    return next((layer for layer in layers if layer.breaks), None)


def find(layers: Sequence[Layer], contents: FileContents) -> tuple[Finding, ...]:
    """Lists what is wrong, the layers that break the values first."""
    broken = [finding for layer in layers if layer.breaks for finding in _causes(layer)]
    others = [finding for layer in layers for finding in _signs(layer, contents)]
    return (*broken, *others, *_islands(layers, contents))


def _causes(layer: Layer) -> Iterator[Finding]:
    """Why a layer's values are wrong: each cause that holds, the likeliest first."""
    error = layer.error
    assert error is not None and error.sqnr_db is not None, layer.name
    found = list(_causes_of_error(layer, error))
    if layer.codes is not None and layer.codes.used < _UNUSED:
        found.append(
            (
                RANGE,
                f"its values use {layer.codes.used:.1%} of the codes of their grid",
                "choose the range anew, by --calibrator mse or percentile:99.99",
            )
        )
    kernel = layer.operator.kernel
    if kernel is not None:
        found += _causes_of_kernel(kernel, layer.name)
    if not found and error.sqnr_db < WRONG_DB:
        found.append(
            (
                WRONG,
                "rounding alone does not do that: a scale, the biases or the weights are not those "
                "that the layer was made with",
                "write the file anew, with kq export RUN or kq quantize MODEL, which prove it",
            )
        )
    elif not found:
        found.append(
            (NOISE, "no single cause is seen", f"keep it in float: --set '{layer.name}=float'")
        )
    for kind, what, remedy in found:
        fall = f"SQNR falls from {layer.start_db:.1f} to {error.sqnr_db:.1f} dB: "
        yield Finding(layer=layer.name, kind=kind, what=fall + what, remedy=_quantize(remedy))


def _causes_of_error(layer: Layer, error: Error) -> Iterator[tuple[str, str, str]]:
    cut = error.cut_noise or 0
    if cut >= _CUT:
        yield (
            CUT,
            f"{error.cut_off:.1%} of float's values lie beyond its grid and are cut off, "
            f"{cut:.0%} of the noise",
            "choose the range anew, by --calibrator minmax, on images like those that it will see",
        )
    elif (
        error.gain is not None
        and error.cosine is not None
        and abs(error.gain - 1) > _OFF_GAIN
        and error.cosine >= _ALIKE
    ):
        yield (
            SCALE,
            f"its values are float's times {error.gain:.3g} (cosine {error.cosine:.3f}): a scale, "
            "of the kernel or of the tensor, is not the one that it was made with",
            "write the file anew, with kq export RUN or kq quantize MODEL, which prove it",
        )
    is_rounding = (error.sqnr_db or 0) >= WRONG_DB
    if (error.offset_noise or 0) >= _OFFSET and cut < _CUT and is_rounding:
        yield (
            OFFSET,
            f"{error.offset_noise:.0%} of the noise are mean errors of channels",
            "correct biases, by --bias empirical --rounding descent",
        )


def _causes_of_kernel(kernel: KernelContents, name: str) -> Iterator[tuple[str, str, str]]:
    if kernel.scales == 1 and (kernel.spread or 0) > _SPREAD:
        yield (
            SPREAD,
            f"one scale for all {kernel.channels} channels of the kernel, whose ranges are up to "
            f"{kernel.spread:.0f} times apart",
            "give each channel its scale, as kq quantize does; or --equalize weights",
        )
    if kernel.dtype in ("int4", "int2", "uint4") or 0 < (kernel.used or 1) < _UNUSED:
        few = "are few" if kernel.dtype != "int8" else f"reach {kernel.used:.0%} of int8's"
        yield (
            WIDTH,
            f"codes of the kernel ({kernel.dtype}) {few}",
            f"give it 8 bits, --set '{name}=w8', or --rounding descent",
        )


def _signs(layer: Layer, contents: FileContents) -> Iterator[Finding]:
    """What looks wrong by itself, whatever float says."""
    kernel, codes = layer.operator.kernel, layer.codes
    if kernel is not None and kernel.is_broken:
        yield Finding(
            layer=layer.name,
            kind=BROKEN,
            what="a scale of its kernel is no positive number",
            remedy="the file is damaged: write it anew",
        )
    if kernel is not None and kernel.dead >= max(1, _DEAD * kernel.channels):
        yield Finding(
            layer=layer.name,
            kind=DEAD,
            what=f"{kernel.dead} of {kernel.channels} channels have weights of 0 alone",
            remedy="look whether the float model has them too; if not, "
            + _quantize("give each channel its scale, or more bits"),
        )
    if codes is None or layer.breaks or _is_well(layer):
        return
    if layer.error is None and codes.at_ends >= _CUT_WITHOUT_FLOAT and not layer.is_input:
        yield Finding(
            layer=layer.name,
            kind=CUT,
            what=f"{codes.at_ends:.1%} of its codes are at an end of their grid "
            f"({codes.least:.4g} to {codes.most:.4g})",
            remedy=_quantize("compare with --float MODEL; --calibrator minmax takes wider ranges"),
        )
    if codes.used < _UNUSED and not _hands_on(layer.operator, contents):
        yield Finding(
            layer=layer.name,
            kind=RANGE,
            what=f"its values use {codes.used:.1%} of the codes of their grid",
            remedy=_quantize("choose the range anew, by --calibrator mse or percentile:99.99"),
        )


def _hands_on(operator: OperatorContents, contents: FileContents) -> bool:
    """Whether it gives codes of the grid that it reads, as a pooling does: that grid was chosen in
    front of it, and few of its codes are few bits."""
    made = contents.tensors[operator.output]
    return operator.kernel is None and any(
        (read.scale, read.zero_point, read.dtype) == (made.scale, made.zero_point, made.dtype)
        for read in (contents.tensors[key] for key in operator.inputs if key in contents.tensors)
    )


def _is_well(layer: Layer) -> bool:
    """Whether float's values say that nothing is wrong."""
    error = layer.error
    return layer.heals or (error is not None and (error.sqnr_db is None or error.sqnr_db >= LOW_DB))


def _quantize(remedy: str) -> str:
    return f"kq quantize: {remedy}" if remedy.lstrip().startswith("-") else remedy


def _islands(layers: Sequence[Layer], contents: FileContents) -> Iterator[Finding]:
    """Operators in float that read codes which are turned into floats, and whose results are
    turned into codes."""
    reads = {one.output: one.inputs for one in contents.operators}
    makers = {one.output: one for one in contents.operators}
    readers: dict[str, list[OperatorContents]] = {}
    for one in contents.operators:
        for key in one.inputs:
            readers.setdefault(key, []).append(one)
    after_codes: set[str] = set()
    before_codes: set[str] = set()
    for one in contents.operators:
        if any(_gives_codes(makers.get(key), after_codes) for key in reads[one.output]):
            after_codes.add(one.output)
    for one in reversed(contents.operators):
        followers = readers.get(one.output, ())
        if any(next_.computes == INTEGER or next_.output in before_codes for next_ in followers):
            before_codes.add(one.output)
    names = {layer.operator.output: layer.name for layer in layers}
    for one in contents.operators:
        if one.computes != FLOAT or one.kernel is None:
            continue
        if one.output in after_codes and one.output in before_codes:
            yield Finding(
                layer=names.get(one.output, one.output),
                kind=ISLAND,
                what=f"{one.op} computes in float between layers of codes: values are dequantized "
                "in front of it and quantized behind it, which costs time",
                remedy="kq bench FILE --profile shows what it costs; a kq export has integers there"
                ", or says why not",
            )


def _gives_codes(maker: OperatorContents | None, after_codes: set[str]) -> bool:
    return maker is not None and (maker.computes == INTEGER or maker.output in after_codes)


def input_finding(
    layers: Sequence[Layer], contents: FileContents, wanted: tuple[float, float] | None
) -> Finding | None:
    """Whether the codes of the input are for another range than images are given in.

    Args:
        wanted: the least and the greatest value of an image; None where it is not known.
    """
    if wanted is None:
        return None
    keys = [layer.operator.output for layer in layers if layer.is_input]
    key = next((key for key in (*keys, *contents.inputs) if contents.tensors[key].scale), None)
    if key is None:
        return None
    tensor = contents.tensors[key]
    assert tensor.scale, key
    low = (tensor.low - tensor.zero_point) * tensor.scale
    high = (tensor.high - tensor.zero_point) * tensor.scale
    least, most = wanted
    room = 2 * tensor.scale
    name = next((layer.name for layer in layers if layer.operator.output == key), tensor.name)
    cut = least < low - room or most > high + room
    if not cut and (most - least) >= (high - low) / 4:
        return None
    what = "what is beyond is cut off" if cut else "most of its codes are for nothing"
    return Finding(
        layer=name,
        kind=INPUT,
        what=f"its codes are for {low:.4g} to {high:.4g}; images are given as {least:.4g} to "
        f"{most:.4g}: {what}",
        remedy="say what the model takes with --preprocess; if it is said rightly, the file was "
        "calibrated on other images: kq quantize MODEL --preprocess NAME",
    )
