from __future__ import annotations

from collections.abc import Iterator

import pytest

from keras_quant.methods import METHODS


@pytest.fixture(autouse=True)
def toy_among_methods() -> Iterator[None]:
    """Puts the toy into the table of methods, as a method that is added stands there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(METHODS, "toy", "tests.methods.toy:METHOD")
        yield
