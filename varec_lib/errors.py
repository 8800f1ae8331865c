"""Errors that a user can cause: each message says what was found, where, and what to do."""


class VarecError(Exception):
    """Base of every error a user can cause; the command line prints it in one line and exits with 2."""

    def __str__(self) -> str:
        """What was said. An error in a data worker arrives with the worker's traceback before it: that is left out."""
        return super().__str__().rsplit(f"{type(self).__module__}.{type(self).__qualname__}: ", 1)[-1].strip()


class ConfigError(VarecError):
    """A setting is out of range, unknown, or contradicts another."""


class DataError(VarecError):
    """A dataset folder, a CSV file or a split cannot be used as it is."""


class VideoError(DataError):
    """A video file is missing, empty, or cannot be decoded."""


class WeightsError(VarecError):
    """Pretrained weights are not there, are damaged, or do not fit the model."""


class CheckpointError(VarecError):
    """A checkpoint cannot be read, or belongs to something else."""


class StoreError(DataError):
    """The frame store cannot be read or written."""


class ResumeError(VarecError):
    """A run cannot be continued: its state is damaged, or belongs to another model, configuration or dataset."""


class TrainingError(VarecError):
    """A run stopped by itself: the loss is not finite, memory is exhausted, or a data worker died."""
