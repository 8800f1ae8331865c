"""What the three widgets share: a page that asks in messages, and this side, which answers one after the other."""

import threading
from pathlib import Path
from typing import Any

import anywidget
from traitlets.log import get_logger

from varec_lib.errors import VarecError

STATIC = Path(__file__).with_name("static")


def joined(names: str) -> str:
    """Scripts of `static/`, by their names, in one: a widget has a single one."""
    return "\n".join((STATIC / f"{name}.js").read_text(encoding="utf-8") for name in names.split())


class MessageWidget(anywidget.AnyWidget):
    """A widget whose page sends messages `{"do": "begin", ...}`, which methods answer: `_do_begin(content, buffers)`.

    They are answered one at a time, and may come in another order than they were sent in: under JupyterLab, ipykernel
    7.4 handles a message in the thread from which the widget last sent one, so that the first reply moves those that
    follow from the main thread to another (a subshell), and they overtake what waits for the main thread.
    """

    _css = (STATIC / "widget.css").read_text(encoding="utf-8")

    def __init__(self, **traits: Any) -> None:
        self._one_at_a_time = threading.RLock()
        super().__init__(**traits)
        self.on_msg(lambda _, content, buffers: self._receive(content, buffers))

    def _receive(self, content: dict[str, Any], buffers: list[memoryview]) -> None:
        """Answers a message. One that makes no sense is left unanswered."""
        try:
            answer = getattr(self, f"_do_{content['do']}", None)
            if answer is None:
                raise KeyError(content["do"])
            with self._one_at_a_time:
                answer(content, buffers)
        except (VarecError, KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
            self._refuse(content, error)
        except Exception:  # of which Jupyter would show a traceback on the page
            get_logger().exception("A message of the page could not be answered.")

    def _refuse(self, content: dict[str, Any], error: Exception) -> None:
        """What becomes of a message that cannot be answered."""
        get_logger().debug("A message of the page made no sense.", exc_info=error)
