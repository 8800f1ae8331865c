"""What may end a training early: Ctrl-C, a full disk, a dead data worker, numbers that are none."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from varec_lib.data.dataset import worker_trouble
from varec_lib.errors import TrainingError
from varec_lib.training.experiment import Experiment


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
def failures_named(experiment: Experiment) -> Iterator[None]:
    """Turns a full disk, and PyTorch's complaints about data workers, into advice."""
    try:
        yield
    except BrokenPipeError:  # whoever read what is printed has gone
        raise
    except OSError as error:
        raise TrainingError(
            f"{error.filename or experiment.folder}: {error.strerror or error}. What was saved before is kept: when "
            f"this is mended, go on with: varec train --resume {experiment.folder}"
        ) from error
    except RuntimeError as error:
        if not (said := worker_trouble(error)):
            raise
        raise TrainingError(f"{said}. Go on with: varec train --resume {experiment.folder}") from error


def diverged(what: str, experiment: Experiment) -> TrainingError:
    """The error of a training whose numbers have become infinite."""
    return TrainingError(
        f"{what}. The checkpoints from before are kept. Lower --lr, try --clip_grad 1 or --precision fp32, and go on "
        f"with: varec train --resume {experiment.folder}"
    )
