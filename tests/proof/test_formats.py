from __future__ import annotations

from pathlib import Path

import pytest

from keras_quant.proof.formats import EXACT_FORMATS, FORMATS, Format, format_of

every_format = pytest.mark.parametrize("form", FORMATS.values(), ids=list(FORMATS))


@every_format
def test_only_formats_that_are_not_exact_declare_a_tolerance(form: Format) -> None:
    assert (form.definition.tolerance is None) == (form.name in EXACT_FORMATS)


@every_format
def test_a_file_is_of_the_format_that_wrote_it(form: Format) -> None:
    assert format_of(Path("export") / form.file_name) is form
    assert format_of(Path("export") / form.failed_name) is form


def test_a_name_without_a_formats_suffix_is_of_none() -> None:
    assert format_of(Path("tensorrt/model.keras")) is None
