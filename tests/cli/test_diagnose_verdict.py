"""What `kq diagnose` says in the end."""

from __future__ import annotations

from types import SimpleNamespace

from keras_quant.cli.diagnose import _verdict


def test_steps_on_the_way_to_a_layers_values_lose_nothing() -> None:
    layers = [
        SimpleNamespace(name="mean", drop_db=92.0, heals=True),
        SimpleNamespace(name="pixels", drop_db=2.5, heals=False),
    ]
    found = SimpleNamespace(breaks_at=None, float_model="net.keras", findings=(), layers=layers)
    assert _verdict(found) == "no layer breaks the file; most is lost at pixels, 2.5 dB"  # type: ignore[arg-type]
