#!/usr/bin/env bash
# FFmpeg 8's scaler maps an HDR colour to another SDR colour when it is stored as YUV than when it is stored as RGB.
#
# Versions: av 18.1.0 (its wheels bundle FFmpeg 8.1.2 with libswscale 9.5.102), numpy 2.3.5.
# Behaviour: libswscale 9 converts HLG and PQ to the colours of an ordinary screen by itself where source and target are
#   tagged. The same picture, in 12 bits without subsampled colours, comes out up to 16 levels of 255 apart, depending
#   on whether it came as YUV (as all files do) or as RGB (as pictures, and most tests of a tone mapping, do). Greys
#   agree within 1.
# Seen (output seen; the colours are green, red and two greys, tagged BT.2020 and HLG):
#   av 18.1.0, libswscale (9, 5, 102), from RGB: [90, 255, 121] [255, 58, 47] [144, 144, 144] [255, 255, 255]
#   av 18.1.0, libswscale (9, 5, 102), from YUV: [85, 239, 116] [255, 65, 43] [144, 144, 144] [255, 255, 255]
# Needs: Python 3.11 or newer, a minute. Exits with 0 if it is still so, 1 if the behaviour changed, 2 if pip fails.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check av==18.1.0 numpy==2.3.5 2>pip.log || { cat pip.log; exit 2; }

if ! venv/bin/python - <<'PYTHON'
import av
import numpy as np

BT709, BT2020, HLG, FULL, LIMITED = 1, 9, 18, 2, 1
colours = np.array([[0, 223, 0], [255, 9, 0], [128, 128, 128], [200, 200, 200]], np.uint16) * 257
picture = np.ascontiguousarray(np.broadcast_to(colours.repeat(64, axis=0), (64, 256, 3)))
rgb = av.VideoFrame.from_ndarray(picture, format="rgb48le")
rgb.color_range = FULL
yuv = rgb.reformat(format="yuv444p12le", dst_colorspace=BT2020, dst_color_range=LIMITED)
mapped = {}
for name, frame in {"RGB": rgb, "YUV": yuv}.items():
    frame.color_trc, frame.color_primaries = HLG, BT2020
    shown = frame.reformat(format="rgb24", dst_color_trc=BT709, dst_color_primaries=BT709).to_ndarray()
    mapped[name] = shown[32, 32::64].astype(int)
    print(f"av {av.__version__}, libswscale {av.library_versions['libswscale']}, from {name}:", *mapped[name].tolist())
plain = yuv.reformat(format="rgb24").to_ndarray()[32, 32::64].astype(int)
assert np.abs(plain - colours // 257).max() <= 1, "the two are not the same picture"
apart = np.abs(mapped["RGB"] - mapped["YUV"]).max(axis=1)
assert apart[0] >= 10 and apart[1] >= 5, f"the colours agree now: {apart}"
assert apart[2:].max() <= 1, f"greys differ, too: {apart}"
PYTHON
then
    echo "changed: FFmpeg maps HDR colours stored as YUV and as RGB otherwise than described above."
    exit 1
fi
