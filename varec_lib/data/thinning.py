"""Which frames stay when a video is thinned out to fewer frames a second: told from the times at which they are shown.

Without torch: whoever decodes a video in a process of its own should not wait for it.
"""

import math
from collections.abc import Iterable
from functools import lru_cache

import numpy as np

FEW = 32  # frames that are left of a short video, where it has so many: twice those of an ordinary clip
SAME_S = 1e-9  # distances between frames that differ by less are the same
SLACK = 0.08  # of the distance between two frames that stay: times are rounded, and cameras are not exact


class Thinning:
    """The first frame of each interval of 1 / `fps` seconds stays, all of them where `fps` is 0.

    Of a video whose header promises so few seconds that less than `FEW` would be left, more of them stay.
    """

    def __init__(self, fps: float, promised_s: float = 0.0) -> None:
        if fps and promised_s:
            fps = max(fps, FEW / promised_s)
        self.fps, self.due = fps, 0.0

    def keeps(self, time_s: float) -> bool:
        """Whether the next frame stays, which is shown `time_s` seconds after the first one."""
        intervals = time_s * self.fps + SLACK
        if self.fps and intervals < self.due:
            return False
        self.due = math.floor(intervals) + 1
        return True


def kept_frames(times: np.ndarray, fps: float, promised_s: float = 0.0) -> np.ndarray:
    """Numbers of the frames that stay of a video whose frames are shown at these times, `(K,)`."""
    fps = Thinning(fps, promised_s).fps
    if len(times) > 2 and np.ptp(np.diff(times)) < SAME_S:  # as nearly all: hundreds of times faster for many videos
        kept = _kept_evenly(float(times[1]), fps, 1 << (len(times) - 1).bit_length())
        return kept[: kept.searchsorted(len(times))]
    return _kept(times.tolist(), fps)


@lru_cache(maxsize=1000)
def _kept_evenly(step_s: float, fps: float, frames: int) -> np.ndarray:
    """The numbers of the frames that stay of so many: of a shorter video, the first of them stay."""
    return _kept([number * step_s for number in range(frames)], fps)


def _kept(times: list[float], fps: float) -> np.ndarray:
    keeps = Thinning(fps).keeps
    return np.flatnonzero([keeps(time_s) for time_s in times])


class KeptFrames:
    """The frames that stay of many videos, in arrays: data workers share these, where lists would be copied bit by bit.

    `videos` are pairs of `times` (s, of each frame and of the end) and `promised_s`, of which `segments` are wanted:
    from when to when, in seconds. `frames` `(N,)` counts those that stay of each, and `before` those before them.
    """

    def __init__(
        self, videos: Iterable[tuple[np.ndarray, float]], fps: float, segments: Iterable[tuple[float, float]]
    ) -> None:
        frames, before, ends, kinds, starts, uneven = [], [], [], [], [0], [np.empty(0)]
        even: dict[tuple[float, float], int] = {}  # distance of frames in seconds, and the rate they are thinned out to
        begins = []
        for (times, promised_s), (start_s, end_s) in zip(videos, segments, strict=True):
            kept, step_s = kept_frames(times[:-1], fps, promised_s), float(times[1])
            first = max(int(np.searchsorted(times[kept], start_s, side="right")) - 1, 0)
            last = max(int(np.searchsorted(times[kept], end_s, side="left")), first + 1)
            if np.array_equal(times[:-1], np.arange(len(times) - 1) * step_s):  # are not kept, but counted again
                kinds.append(even.setdefault((step_s, Thinning(fps, promised_s).fps), len(even)))
            else:
                kinds.append(-len(starts))
                uneven += [kept[first:last], times[kept[first:last]]]
                starts.append(starts[-1] + 2 * (last - first))
            frames.append(last - first)
            before.append(first)
            begins.append(start_s)
            ends.append(min(end_s, times[-1]))
        self.frames, self.before = np.array(frames, np.int32), np.array(before, np.int32)
        self._begins = np.array(begins if any(begins) else [0.0])
        self._ends, self._kinds, self._even = np.array(ends, float), np.array(kinds, np.int32), np.array([*even], float)
        self._starts, self._uneven = np.array(starts), np.concatenate(uneven)

    def numbers(self, row: int) -> np.ndarray:
        """Which frames of a video these are, `(F,)`."""
        count, first, kind = int(self.frames[row]), int(self.before[row]), int(self._kinds[row])
        if kind < 0:
            return self._uneven[self._starts[-kind - 1] :][:count].astype(np.int64)
        step_s, fps = self._even[kind].tolist()
        enough = 1 << int(self._ends[row] / step_s + 1).bit_length()
        return _kept_evenly(step_s, fps, enough)[first : first + count]

    def times(self, row: int) -> np.ndarray:
        """When each of them is shown, and when the video or segment ends, in seconds from its beginning: `(F + 1,)`."""
        count, kind = int(self.frames[row]), int(self._kinds[row])
        if kind < 0:
            shown = self._uneven[self._starts[-kind - 1] + count :][:count]
        else:
            shown = self.numbers(row) * float(self._even[kind, 0])
        begin_s = float(self._begins[row % len(self._begins)])
        return (np.append(shown, self._ends[row]) - begin_s).clip(min=0)
