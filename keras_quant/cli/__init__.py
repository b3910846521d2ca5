"""The command `kq`: one module a command, listed in `keras_quant.cli.main.COMMANDS`."""
