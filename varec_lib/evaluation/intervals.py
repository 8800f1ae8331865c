"""How sure can a few groups of videos make us of a share of right answers? (notebook 05)

Videos of a group (people or scenes filmed together) resemble each other: 160 videos in 10 groups tell less than 160
videos would, and how much less is not known either. Shares of groups follow a beta distribution here, right answers in
a group a beta-binomial one (Skellam 1948; Williams 1975, Biometrics 31), and an interval holds 95 % of what the share
may be, whatever the correlation. docs/evaluation.md says how often that holds the truth, and why it is not a bootstrap.
"""

import numpy as np

WIDTH = 0.85  # of the prior Beta(WIDTH, WIDTH) of a share: between Jeffreys's 0.5 and the uniform 1
_PLACES = (np.arange(40) + 0.5) / 40
# Strengths of the beta distribution, (1 - correlation) / correlation: a priori groups are rather loose or of a piece.
_STRENGTHS = (1 / _PLACES - 1) ** 4


def share_interval(right: np.ndarray, videos: np.ndarray) -> tuple[float, float]:
    """95 % interval of the share of right answers, of which `right` of `videos` were counted in each group `(G,)`.

    It holds the share that was counted, and ends at 0 or 1 only where none or all were right. A single group cannot
    tell how groups differ: (0, 1), as without any.
    """
    right, videos = np.asarray(right), np.asarray(videos)
    if len(videos) < 2:
        return 0.0, 1.0
    edges, masses = _posterior(right, videos)
    low, high = np.interp(_tails(len(videos)), np.append(0, masses.cumsum()), edges).tolist()
    share = float(right.sum() / videos.sum())
    return 0.0 if share == 0 else min(low, share), 1.0 if share == 1 else max(high, share)


def difference_interval(first: np.ndarray, second: np.ndarray, videos: np.ndarray) -> tuple[float, float]:
    """95 % interval of how much more often a first model is right than a second on the same groups of videos `(G,)`.

    `first` counts in each group the videos on which only the first is right, `second` those of the second. The share
    of videos on which they differ, and the share of these that the first has right, are both as in `share_interval`.
    Of a single group it is (-1, 1).
    """
    first, second, videos = np.asarray(first), np.asarray(second), np.asarray(videos)
    if len(videos) < 2:
        return -1.0, 1.0
    (differ, often), (ahead, likely) = _posterior(first + second, videos), _posterior(first, first + second)
    middle = [(edges[1:] + edges[:-1]) / 2 for edges in (differ, ahead)]
    gaps, masses = np.outer(middle[0], 2 * middle[1] - 1).ravel(), np.outer(often, likely).ravel()
    order = gaps.argsort()
    below = masses[order].cumsum() - masses[order] / 2
    low, high = np.interp(_tails(len(videos)), below, gaps[order]).tolist()
    gap = float((first - second).sum() / videos.sum())
    return min(low, gap), max(high, gap)


def mcnemar(first: np.ndarray, second: np.ndarray) -> float:
    """McNemar's test over groups: how probable so large a lead would be if both models were equally good; exact.

    `first` and `second` as in `difference_interval`. Were the models equally good, then in each group the lead could
    as well be the other one's, so the sign of each is flipped (Fisher 1935) in all ways: the statistic is that of Yang,
    Sun and Hardin (2010, Biometrical Journal 52), whose normal approximation needs more groups than a test often has.
    With groups of one it is McNemar's exact test of 1947. Fewer than six groups that differ never give p < 0.05.
    """
    leads = np.subtract(first, second, dtype=int)
    leads = leads[leads != 0]
    most = int(np.abs(leads).sum())
    sizes, counts = np.unique(np.abs(leads), return_counts=True)
    turns = 2 * np.pi / (2 * most + 1) * np.arange(2 * most + 1)
    # Of a sum of independent signs, the characteristic function is a product of cosines.
    waves = np.prod(np.cos(np.outer(sizes, turns)) ** counts[:, None], axis=0)
    sums = np.fft.fftshift(np.fft.ifft(waves).real)  # probability of each sum from -most to most
    beyond = np.abs(np.arange(-most, most + 1)) >= abs(int(leads.sum()))
    return float(np.clip(sums[beyond].sum(), min(2 * 0.5 ** len(leads), 1), 1))


def wilson_interval(right: np.ndarray | int, videos: np.ndarray | int) -> tuple[np.ndarray, np.ndarray]:
    """95 % interval of a share of which `right` of `videos` were counted (Wilson 1927); not for groups of videos."""
    z, share = 1.96, np.asarray(right) / videos
    middle = share + z * z / (2 * videos)
    half = z * np.sqrt(share * (1 - share) / videos + (z / (2 * videos)) ** 2)
    return (middle - half) / (1 + z * z / videos), (middle + half) / (1 + z * z / videos)


def _tails(groups: int) -> list[float]:
    """Where a 95 % interval begins and ends; a little farther out for few groups, where the prior says too much."""
    tail = 0.025 * (1 - 1 / groups) ** 1.5
    return [tail, 1 - tail]


def _posterior(right: np.ndarray, videos: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What a share may be: edges `(N + 1,)` of cells from low to high, and the probability `(N,)` of each cell.

    Cells have equal widths in the angle whose sine is the root of the share; a first, coarse pass finds where the share
    may lie at all. How probable a correlation is, the beta-binomial likelihood says. Given that, groups are weighted
    such that all videos count alike, as they do in a share, and none where all groups have equally many.
    """
    spread = 1 + np.maximum(videos - 1, 0)[:, None] / (1 + _STRENGTHS)  # (G, R), the design effect
    spread = spread * videos.sum() / (videos @ spread) if videos.any() else spread
    alike = len(set(videos.tolist())) == 1
    weights = np.stack([np.ones_like(spread), spread][alike:])  # (2, G, R), or (1, G, R) of ones
    low, high = 0.0, 1.0
    for cells in (60, 120):
        angles = np.linspace(low, high, 2 * cells + 1) * np.pi / 2
        edges, share = np.sin(angles[::2]) ** 2, np.sin(angles[1::2, None]) ** 2
        logs = _rises(share * _STRENGTHS, right, weights) + _rises((1 - share) * _STRENGTHS, videos - right, weights)
        logs += (WIDTH - 0.5) * np.log(share * (1 - share)) - _rises(_STRENGTHS[None], videos, weights)
        probable = np.exp(logs[0] - logs[0].max()).sum(axis=0)  # (R,)
        given = np.exp(logs[-1] - logs[-1].max(axis=0))  # (N, R)
        masses = given / given.sum(axis=0) @ probable
        (kept,) = np.nonzero(masses > 1e-7 * masses.max())
        low, high = low + (high - low) * kept[0] / cells, low + (high - low) * (kept[-1] + 1) / cells
    return edges, masses / masses.sum()


def _rises(start: np.ndarray, counts: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The logarithm of start (start + 1) ... (start + count - 1), summed over groups with each of the weights."""
    found = np.zeros((len(weights), *start.shape))
    for step in range(counts.max(initial=0)):
        found += weights[:, counts > step].sum(axis=1)[:, None] * np.log(start + step)
    return found
