"""`python -m keras_quant` is `kq`."""

from __future__ import annotations

from keras_quant.cli.main import main

main(prog_name="kq")
