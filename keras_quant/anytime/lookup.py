"""Where a machine is that has a name, asked for with a limit: systems give `getaddrinfo` none."""

from __future__ import annotations

import queue
import socket
import threading
from typing import Any

Place = tuple[int, int, int, str, Any]
"""Family, type, protocol, name and address, as `socket.getaddrinfo` gives them."""


class Lookup:
    """Looks one name up, as often as it is needed, by one thread at a time.

    What comes late is not lost: the next one who asks gets it at once. So a machine whose name
    takes longer than there is time for an image is found for a later one.
    """

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._answer: queue.SimpleQueue[list[Place] | OSError] | None = None

    def places(self, *, seconds: float) -> list[Place]:
        """Where it is, the best place first.

        Raises:
            TimeoutError: nobody has said so in that time.
            OSError: there is no such name, say.
        """
        if self._answer is None:
            self._answer = queue.SimpleQueue()
            # A daemon, as nothing ends it before the system does.
            threading.Thread(target=self._look, args=(self._answer,), daemon=True).start()
        try:
            found = self._answer.get(timeout=max(0.0, seconds))
        except queue.Empty:
            raise TimeoutError from None
        self._answer = None
        if isinstance(found, OSError):
            raise found
        return found

    def _look(self, answer: queue.SimpleQueue[list[Place] | OSError]) -> None:
        try:
            found: Any = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        except OSError as error:
            found = error
        answer.put(found)
