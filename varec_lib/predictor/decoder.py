"""Decodes one video of unknown origin, as a process of its own: `python -m varec_lib.predictor.decoder` (notebook 06).

The video is an open file handed over as standard input, never a name. What its frames are goes to standard output, as
messages of a kind (one byte), a length (four) and a body: first `{"fps", "promised_s"}` as the header tells them, then
frames, each with its height and width (four and four) and its time in seconds (eight) before its RGB bytes, last
`{"cut", "lost", "ends_s"}` or `{"error"}`. Where a preview is wanted, each frame comes in two sizes made of the same
picture, the preview's first. JSON and pixels only: whoever reads them need not trust us.
`varec_lib.predictor.sandbox` starts it, within limits of memory and time.
"""

import json
import os
import struct
import sys
import threading
import time
from contextlib import suppress
from typing import BinaryIO

import av
import cv2
import numpy as np

from varec_lib.data.preview import LONGEST_S, preview_size
from varec_lib.data.video import open_video
from varec_lib.errors import VideoError

JSON, FRAME, PREVIEW = b"J", b"F", b"P"
HEAD, SIZE = struct.Struct(">cI"), struct.Struct(">IId")


def main() -> None:
    """Decodes what standard input holds; the limits come as JSON in the only argument."""
    limits = json.loads(sys.argv[1])
    threading.Thread(target=_end_with, args=[limits["parent"]], daemon=True).start()
    sys.stdout = sys.stderr  # nobody else prints between the messages
    with suppress(BrokenPipeError), os.fdopen(os.dup(1), "wb") as out:
        _decode(limits, out)
        out.flush()
    os._exit(0)  # a damaged video must not get a last chance to crash us


def _end_with(parent: int) -> None:
    """Ends this process when its parent is gone, because nobody is left to kill it then."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _decode(limits: dict, out: BinaryIO) -> None:
    def send(kind: bytes, *parts: bytes) -> None:
        out.write(HEAD.pack(kind, sum(map(len, parts))))
        for part in parts:
            out.write(part)

    def say(**facts: object) -> None:
        send(JSON, json.dumps(facts).encode())

    def send_picture(kind: bytes, picture: np.ndarray, time_s: float) -> None:
        send(kind, SIZE.pack(*picture.shape[:2], time_s), picture.tobytes())

    try:
        with os.fdopen(os.dup(0), "rb") as file, open_video(file) as video:
            _check_size(*video.coded_size, limits["pixels"])
            say(fps=video.promised_fps, promised_s=min(video.promised_s, limits["seconds"]))
            cut = False
            for frame in video.thinned(limits["fps"]):
                _check_size(video.width, video.height, limits["pixels"])  # headers lie
                if cut := video.frames > limits["frames"] or frame.time_s >= limits["seconds"]:
                    break
                if limits["preview"] and frame.time_s < LONGEST_S:
                    send_picture(PREVIEW, frame.scaled(preview_size(video.height, video.width)), frame.time_s)
                send_picture(FRAME, frame.picture(limits["short_side"]), frame.time_s)
            promised_s = 0.0 if cut else min(video.promised_s, 1e6)
            say(cut=cut, lost=video.lost, ends_s=frame.time_s if cut else video.ends_s, promised_s=promised_s)
    except VideoError as error:
        say(error=str(error))
    except (MemoryError, cv2.error, av.FFmpegError):
        say(error="it needs more memory than a video is given here, or it is damaged.")


def _check_size(width: int, height: int, pixels: int) -> None:
    if width * height > pixels:
        most = f"{pixels / 1e6:.2g} megapixels"
        raise VideoError(f"its pictures of {width}x{height} are larger than the {most} that are taken here.")


if __name__ == "__main__":
    main()
