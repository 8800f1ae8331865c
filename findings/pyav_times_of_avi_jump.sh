#!/usr/bin/env bash
# PyAV 18.1.0 gives frames of an AVI in the order in which they are shown, but their times jump to and fro.
#
# Versions: av 18.1.0 (its wheels bundle FFmpeg 8.1.2 with libavformat 62.12.102), numpy 2.3.5.
# Behaviour: AVI stores frames in the order of decoding, and no times. Where a codec has B-frames (XviD, DivX, H.264;
#   also 40 of 250 clips of UCF-101 that were looked at), FFmpeg guesses `pts` wrongly. Its programs then go by the
#   decoder's best effort, which PyAV does not show: `VideoFrame.pts` and `.time` are the guessed ones, and they mislead
#   a program that samples frames by time, or that takes a step back in time for a cut. `VideoFrame.dts` counts up
#   evenly (None for the last ones). The same frames in MP4 have even times.
# Seen (output seen, 12 frames of H.264 with two B-frames, each brighter than the one before):
#   av 18.1.0: avi times in frames [1, 3, 4, 2, 6, 7, 5, 9, 10, 8, 12, 11]
#   av 18.1.0: avi dts [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, None, None]
#   av 18.1.0: mp4 times in frames [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
#   av 18.1.0: mp4 dts [0, 512, 1024, 1536, 2048, 2560, 3072, 3584, 4096, 4608, None, None]
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

found = {}
for ending in ("avi", "mp4"):
    with av.open(f"v.{ending}", "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"bf": "2", "crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(12):  # each a little brighter
            picture = np.full((48, 64, 3), 20 + 15 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    with av.open(f"v.{ending}") as container:
        frames = list(container.decode(video=0))
    bright = [frame.to_ndarray(format="rgb24").mean() for frame in frames]
    assert len(frames) == 12 and (np.diff(bright) > 5).all(), "the pictures do not come in order"
    found[ending] = [round(frame.time * 25) for frame in frames], [frame.dts for frame in frames]
    for what, numbers in zip(("times in frames", "dts"), found[ending], strict=True):
        print(f"av {av.__version__}: {ending} {what} {numbers}")
steps = {ending: np.diff(times) for ending, (times, _) in found.items()}
assert (steps["mp4"] == 1).all(), "an MP4's times are uneven, too"
assert (steps["avi"] < 0).any(), "an AVI's times do not jump any more"
told = [dts for dts in found["avi"][1] if dts is not None]
assert told == list(range(told[0], told[0] + len(told))), "nor do its dts count up"
PYTHON
then
    echo "changed: PyAV gives other times or another order for the frames of an AVI than described above."
    exit 1
fi
