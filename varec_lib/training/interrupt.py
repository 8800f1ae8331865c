"""Ctrl-C in the middle of a training."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from varec_lib.errors import TrainingError
from varec_lib.training.experiment import Experiment
from varec_lib.training.state import LAST


@contextmanager
def interrupt_as_event() -> Iterator[threading.Event]:
    """Ctrl-C sets the event instead of raising wherever the program happens to be; a second one raises as usual."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked  # only the main thread receives signals
        return
    former = signal.getsignal(signal.SIGINT)

    def note(*_: Any) -> None:
        asked.set()
        signal.signal(signal.SIGINT, former)

    signal.signal(signal.SIGINT, note)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, former)


@contextmanager
def dead_workers_named(experiment: Experiment) -> Iterator[None]:
    """Turns PyTorch's complaint about a data worker that died, in training, validation or test, into advice."""
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        saved = (experiment.folder / LAST).is_file()
        again = f"Go on with: varec train --resume {experiment.folder}" if saved else "Then run it again."
        raise TrainingError(
            f"A data worker died: too little memory (lower --num_workers or --batch_size), or a damaged file. {again}"
        ) from error
