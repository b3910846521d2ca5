"""Progress of long work, on stderr: bars on a terminal, lines elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keras_quant.runs.history import Epoch


class Progress:
    """Shows what is being done; `Progress(quiet=True)` shows nothing."""

    def __init__(self, *, quiet: bool = False) -> None:
        from rich.console import Console

        self._console = Console(
            stderr=True, quiet=quiet, highlight=False, emoji=False, force_jupyter=False
        )

    def say(self, text: str) -> None:
        """Writes one line."""
        self._console.print(text, markup=False, soft_wrap=True)

    def epoch(self, row: Epoch, epochs: int) -> None:
        """Writes one finished epoch's line."""
        self.say(
            f"epoch {row.epoch}/{epochs}  loss {row.loss:.4f}  {row.metric} {row.score:.4f}  "
            f"val_loss {row.val_loss:.4f}  val_{row.metric} {row.val_score:.4f}  "
            f"{row.seconds:.1f} s"
        )

    @contextlib.contextmanager
    def bar(self, title: str, total: int) -> Iterator[Callable[[float, str], None]]:
        """Lends a function of how much is done and of a text to show behind the bar."""
        if not self._console.is_terminal:
            yield lambda done, text: None
            return
        from rich import progress

        columns = (
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeRemainingColumn(),
            progress.TextColumn("{task.fields[text]}"),
        )
        with progress.Progress(*columns, console=self._console, transient=True) as bars:
            task = bars.add_task(title, total=total, text="")

            def show(done: float, text: str) -> None:
                bars.update(task, completed=done, text=text)

            yield show
