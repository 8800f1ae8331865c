"""Which frames of a video make a clip (notebook 01).

Each function maps a number of decodable frames to `num_frames` indices. With a `generator` (training) the choice is
random; without one (evaluation) it is the same every time. Videos shorter than the clip are looped.
"""

import torch


def uniform_indices(
    frames: int, num_frames: int, *, view: int = 0, views: int = 1, generator: torch.Generator | None = None
) -> list[int]:
    """One frame from each of `num_frames` equal segments of the video (TSN, arXiv 1608.00859).

    Training draws a frame anew from each segment (temporal jitter), so none comes twice; evaluation takes the middle,
    or with several views the `view`-th of `views` evenly spaced positions.
    """
    if frames < num_frames:
        return [i % frames for i in range(num_frames)]
    if generator is not None:
        edges = [i * frames // num_frames for i in range(num_frames + 1)]  # whole frames: no two segments share one
        draws = torch.rand(num_frames, generator=generator).tolist()
        return [edges[i] + int(draw * (edges[i + 1] - edges[i])) for i, draw in enumerate(draws)]
    offset = (view + 0.5) / views
    return [int((i + offset) * frames / num_frames) for i in range(num_frames)]


def dense_indices(
    frames: int,
    num_frames: int,
    stride: int,
    *,
    view: int = 0,
    views: int = 1,
    generator: torch.Generator | None = None,
) -> list[int]:
    """Every `stride`-th frame of one stretch of the video (I3D, arXiv 1705.07750).

    Training starts anywhere the stretch fits; evaluation takes the middle, or the `view`-th of `views` evenly spaced
    starts. A stretch longer than the video wraps around to its start.
    """
    room = max(frames - ((num_frames - 1) * stride + 1), 0)
    if generator is not None:
        start = int(torch.randint(room + 1, (), generator=generator))
    else:
        start = int(room * (view + 0.5) / views)
    return [(start + i * stride) % frames for i in range(num_frames)]
