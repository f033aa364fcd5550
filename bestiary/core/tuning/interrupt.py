"""Ctrl-C, taken at the end of a batch: at another moment it may fall into a library's clean-up, where Python drops it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning.pytorch.callbacks import Callback


class Interrupt(Callback):
    """Raises KeyboardInterrupt at the end of the batch in which a person pressed Ctrl-C; pressed again, it comes at once."""

    asked = False

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Listens meanwhile. Processes that are forked in it, as those that read rows, pass over Ctrl-C and end with this one."""
        if threading.current_thread() is not threading.main_thread():  # no other is told of signals
            yield
            return
        before = signal.signal(signal.SIGINT, self._ask)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _ask(self, *_: Any) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def on_train_batch_end(self, *_: Any) -> None:
        self._stop()

    def on_validation_batch_end(self, *_: Any) -> None:
        self._stop()

    def _stop(self) -> None:
        if self.asked:
            raise KeyboardInterrupt
