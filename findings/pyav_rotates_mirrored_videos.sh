#!/usr/bin/env bash
# PyAV 18.1.0 says that a mirrored video is turned by 180 degrees, and that one turned upside down by a flip is not.
#
# Versions: av 18.1.0 (its wheels bundle FFmpeg 8.1.2), numpy 2.3.5.
# Behaviour: phones' front cameras, and editors, mirror a video by its display matrix alone. `VideoFrame.rotation`
#   reduces that matrix to an angle: -180 for a picture mirrored left to right, so that a reader that turns pictures by
#   it shows people on their heads, and 0 for one flipped top to bottom. `ffmpeg` shows both as they are meant. The
#   matrix itself is in `frame.side_data["DISPLAYMATRIX"]` (nine int32, here divided by 65536), and is right.
# Seen (output seen):
#   av 18.1.0: upright  rotation     0, matrix (1, 0, 0, 1)
#   av 18.1.0: hflip    rotation  -180, matrix (-1, 0, 0, 1)
#   av 18.1.0: vflip    rotation     0, matrix (1, 0, 0, -1)
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

seen = {}
for name, how in {"upright": {}, "hflip": {"hflip": True}, "vflip": {"vflip": True}}.items():
    with av.open(f"{name}.mp4", "w") as container:
        stream = container.add_stream("libx264", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        if how:
            stream.set_display_rotation(0, **how)
        for _ in range(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode(None))
    with av.open(f"{name}.mp4") as container:
        frame = next(container.decode(video=0))
        matrix = frame.side_data.get("DISPLAYMATRIX")
        a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5] // 65536 if matrix else (1, 0, 0, 0, 1)
        seen[name] = frame.rotation, (int(a), int(b), int(c), int(d))
    print(f"av {av.__version__}: {name:8s} rotation {seen[name][0]:5d}, matrix {seen[name][1]}")
assert seen["upright"] == (0, (1, 0, 0, 1))
assert seen["hflip"] == (-180, (-1, 0, 0, 1)), "a mirrored video is not said to be upside down any more"
assert seen["vflip"] == (0, (1, 0, 0, -1)), "a flipped video is not said to be upright any more"
PYTHON
then
    echo "changed: PyAV gives another rotation or matrix for mirrored and flipped videos than described above."
    exit 1
fi
