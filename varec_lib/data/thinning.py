"""Which frames stay when a video is thinned out to fewer frames a second.

Without torch: whoever decodes a video in a process of its own should not wait for it.
"""

import math

import numpy as np

SAME_RATE = 1 - 1e-9  # rates that differ by rounding alone are the same


def is_kept(position: int, native_fps: float, fps: float) -> bool:
    """Whether a video thinned out to `fps` frames a second keeps its frame `position`; the first one always stays.

    0 keeps every frame, as does a rate that the video does not exceed or does not tell: none is ever invented.
    """
    if not 0 < fps < SAME_RATE * native_fps:
        return True
    return math.floor(position * fps / native_fps) > math.floor((position - 1) * fps / native_fps)


def kept_frames(frames: int, native_fps: float, fps: float) -> np.ndarray:
    """Numbers of all frames that `is_kept` keeps of a video with `frames` frames, `(K,)`."""
    positions = np.arange(-1, frames)
    if not 0 < fps < SAME_RATE * native_fps:
        return positions[1:]
    return positions[1:][np.diff(np.floor(positions * fps / native_fps)) > 0]


def kept_counts(frames: np.ndarray, native_fps: np.ndarray, fps: float) -> np.ndarray:
    """How many frames `kept_frames` keeps of each of many videos, `(N,)`."""
    thinned = (0 < fps) & (fps < SAME_RATE * native_fps)
    return np.where(thinned, np.floor((frames - 1) * fps / np.where(thinned, native_fps, 1)) + 1, frames).astype(int)
