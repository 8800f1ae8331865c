"""Which frames of a video make a clip: told in seconds, because not all frames are shown equally long (notebook 01).

`times` `(F + 1,)` says when each of the F frames begins to be shown, from 0 on, and at last when the video ends. Each
function returns the numbers of `num_frames` frames. With a `generator` (training) the choice is random; without one
(evaluation) it is the same every time.
"""

import numpy as np
import torch

SAME_S = 1e-6  # moments that differ by less are the same


def shown_at(times: np.ndarray, moments_s: np.ndarray) -> np.ndarray:
    """The numbers of the frames that are shown at these moments, in seconds from the first frame."""
    return times[:-1].searchsorted(moments_s + SAME_S, side="right") - 1


def nearest_to(times: np.ndarray, moments_s: np.ndarray) -> np.ndarray:
    """The numbers of the frames whose own times are nearest to these moments, in seconds from the first frame."""
    return ((times[:-2] + times[1:-1]) / 2).searchsorted(moments_s, side="right")


def uniform_indices(
    times: np.ndarray, num_frames: int, *, view: int = 0, views: int = 1, generator: torch.Generator | None = None
) -> list[int]:
    """One frame from each of `num_frames` equal segments of the video's time (TSN, arXiv 1608.00859).

    Training draws a frame anew from each segment (temporal jitter), so none comes twice where there are enough;
    evaluation takes the middle, or with several views the `view`-th of `views` evenly spaced positions. Videos with
    fewer frames than the clip are looped.
    """
    frames = len(times) - 1
    if frames < num_frames:
        return [i % frames for i in range(num_frames)]
    segment_s = times[-1] / num_frames
    if generator is None:
        return shown_at(times, (np.arange(num_frames) + (view + 0.5) / views) * segment_s).tolist()
    edges = [*shown_at(times, np.arange(num_frames) * segment_s).tolist(), frames]  # no two segments share a frame
    draws = torch.rand(num_frames, generator=generator).tolist()
    return [edges[i] + int(draw * (edges[i + 1] - edges[i])) for i, draw in enumerate(draws)]


def dense_indices(
    times: np.ndarray,
    num_frames: int,
    step_s: float,
    *,
    view: int = 0,
    views: int = 1,
    generator: torch.Generator | None = None,
) -> list[int]:
    """The frames nearest to every `step_s` seconds of one stretch of the video (I3D, arXiv 1705.07750).

    Training starts at any frame from which the stretch fits; evaluation takes the middle, or the `view`-th of `views`
    evenly spaced starts. A stretch longer than the video wraps around to its start.
    """
    last_start_s = times[-2] - (num_frames - 1) * step_s
    room = int(shown_at(times, np.array(max(last_start_s, 0.0))))
    if generator is not None:
        start = int(torch.randint(room + 1, (), generator=generator))
    else:
        start = int(room * (view + 0.5) / views)
    moments_s = times[start] + np.arange(num_frames) * step_s + SAME_S  # which comes before the remainder is taken
    return nearest_to(times, moments_s % times[-1]).tolist()
