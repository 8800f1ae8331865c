"""Makes varec_lib/data/colours.npz: what FFmpeg's scaler makes of HDR and wide-gamut colours, as tables.

It computes such a table anew for every file, which takes 3 to 4 seconds.
"""

from pathlib import Path

import av
import numpy as np

SIDE = 33  # entries along red, green and blue
FILE = Path(__file__).resolve().parents[1] / "varec_lib" / "data" / "colours.npz"
BT709, BT2020, P3 = 1, 9, 12  # primaries; the first two are also the numbers of matrices
TABLES = {  # transfer, primaries, matrix, transfer afterwards
    "hlg": (18, BT2020, BT2020, BT709),
    "pq": (16, BT2020, BT2020, BT709),
    "bt2020": (14, BT2020, BT2020, BT709),
    "p3": (13, P3, BT709, 13),
}


def table(transfer: int, primaries: int, matrix: int, transfer_after: int) -> np.ndarray:
    """Colours of an ordinary screen, uint8 `(SIDE, SIDE, SIDE, 3)`, at evenly spaced red, green and blue."""
    steps = np.linspace(0, 65535, SIDE).round().astype(np.uint16)
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(SIDE * SIDE, SIDE, 3)
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(grid.repeat(2, 0).repeat(2, 1)), format="rgb48le")
    frame.color_range = 2
    # Through YUV, as it comes in files: the scaler maps RGB slightly differently.
    stored = frame.reformat(format="yuv444p12le", dst_colorspace=matrix, dst_color_range=1)
    stored.color_trc, stored.color_primaries = transfer, primaries
    shown = stored.reformat(format="rgb24", dst_color_trc=transfer_after, dst_color_primaries=BT709)
    return shown.to_ndarray()[::2, ::2].reshape(SIDE, SIDE, SIDE, 3)


if __name__ == "__main__":
    np.savez_compressed(FILE, **{name: table(*how) for name, how in TABLES.items()})
    print(f"{FILE.name}: {FILE.stat().st_size / 1000:.0f} kB")
