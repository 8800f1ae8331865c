"""A file on its way from a page, in pieces."""

import tempfile
import time
from contextlib import suppress

from varec_lib.errors import VideoError
from varec_lib.predictor.sandbox import Limits, check_size

STALLED_S = 60.0  # without a piece of a video that is on its way
NO_ROOM = "there is no room for it here. Try a smaller video."


class Upload:
    """A file that arrives in pieces, into a temporary file without a name: it vanishes with the process.

    `size` is what was announced; no more than that, and than the limits, is taken. `latest` is when its latest piece
    came, by the monotonic clock.
    """

    def __init__(self, size: int, limits: Limits) -> None:
        """Raises `VideoError` where the announced size is none that is taken, or nothing can be kept here."""
        check_size(size, limits)
        self.size, self.received, self.latest = size, 0, time.monotonic()
        try:
            self.file = tempfile.TemporaryFile()
        except OSError as error:
            raise VideoError(NO_ROOM) from error

    def add(self, offset: int, data: bytes | memoryview) -> int:
        """Takes the next piece; returns how many bytes are here now. Raises `VideoError` for more than announced.

        Any other piece is left out: a page sends again what was lost on its way, or came before its turn.
        """
        if offset + len(data) > self.size:
            raise VideoError("there is more of it than its size says; send it again.")
        if offset != self.received:
            return self.received
        try:
            self.file.write(data)
        except OSError as error:
            raise VideoError(NO_ROOM) from error
        self.received += len(data)
        self.latest = time.monotonic()
        return self.received

    @property
    def stalled(self) -> bool:
        """Whether nothing has come for so long that its page must be gone."""
        return time.monotonic() - self.latest > STALLED_S

    def complete(self) -> None:
        """Says that all pieces were sent. Raises `VideoError` where some are missing."""
        if self.received != self.size:
            raise VideoError("a part of it is missing; send it again.")
        try:
            self.file.flush()
        except OSError as error:
            raise VideoError(NO_ROOM) from error

    def close(self) -> None:
        """Gives its room back."""
        with suppress(OSError):  # what does not fit any more
            self.file.close()
