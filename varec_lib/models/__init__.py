"""Chapters 2 and 3: networks that turn a batch of clips into class scores. Importing it registers them."""

from varec_lib.models import cnn_lstm, frame_average, i3d, r3d18  # noqa: F401
