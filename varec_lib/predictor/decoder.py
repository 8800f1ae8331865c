"""Decodes one video of unknown origin, as a process of its own: `python -m varec_lib.predictor.decoder` (notebook 06).

The video is an open file handed over as standard input, never a name. What its frames are goes to standard output, as
messages of a kind (one byte), a length (four) and a body: first `{"fps", "frames"}` as the header tells them, within
the limits, then frames, each with its height and width (four and four) and its time in seconds (eight) before its RGB
bytes, last `{"cut", "promised_s"}` or `{"error"}`. Where a preview is wanted, each frame comes in two sizes made of
the same picture, the preview's first. JSON and pixels only: whoever reads them need not trust us.
`varec_lib.predictor.sandbox` starts it, within limits of memory and time.
"""

import json
import os
import struct
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from varec_lib.data.decode import cv2, decode_frames, frame_rate, open_capture, shrunk, shrunk_size
from varec_lib.data.preview import LONGEST_S, preview_size
from varec_lib.errors import VideoError

# FFmpeg also opens lists of other files and addresses (HLS, concat, ...): none of these are taken for a video here.
FORMATS = "avi,mov,matroska,webm,mpeg,mpegts,mpegvideo,asf,flv,live_flv,ogg,gif,m4v,h264,hevc,ivf,mxf,nut,rm,dv,wtv"
OPTIONS = f"format_whitelist;{FORMATS}|protocol_whitelist;file,fd,pipe"
VIDEO = Path("/dev/fd/0")
JSON, FRAME, PREVIEW = b"J", b"F", b"P"
HEAD, SIZE = struct.Struct(">cI"), struct.Struct(">IId")


def main() -> None:
    """Decodes what standard input holds; the limits come as JSON in the only argument."""
    limits = json.loads(sys.argv[1])
    threading.Thread(target=_end_with, args=[limits["parent"]], daemon=True).start()
    os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = OPTIONS
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

    try:
        with open_capture(VIDEO) as capture:
            # Frames that are larger than the header says are scaled down to it, within the limits of memory and time.
            width, height = (int(capture.get(what)) for what in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
            if width * height > limits["pixels"]:
                most = f"{limits['pixels'] / 1e6:.2g} megapixels"
                raise VideoError(f"its pictures of {width}x{height} are larger than the {most} that are taken here.")
            fps = frame_rate(VIDEO, capture)
            most = min(limits["frames"], max(round(limits["seconds"] * (fps or 25)), 1))
            count, rate = max(capture.get(cv2.CAP_PROP_FRAME_COUNT), 0.0), capture.get(cv2.CAP_PROP_FPS)
            say(fps=fps, frames=min(int(count), most))

            start_s, side = None, limits["short_side"]

            def send_frame(kind: bytes, frame, at_s: float) -> None:
                send(kind, SIZE.pack(*frame.shape[:2], at_s), frame.tobytes())

            def save(frame, at_s: float) -> None:
                nonlocal start_s
                start_s = at_s if start_s is None else start_s
                if limits["preview"] and at_s - start_s < LONGEST_S:
                    send_frame(PREVIEW, shrunk(frame, preview_size(*frame.shape[:2])), at_s)
                send_frame(FRAME, shrunk(frame, shrunk_size(*frame.shape[:2], side)), at_s)

            whole = 0 if limits["preview"] else side  # scaling down before the colours change costs less
            info = decode_frames(capture, fps, save, short_side=whole, fps=limits["fps"], name=str(VIDEO), most=most)
            promised_s = min(count / rate, 1e6) if rate > 0 and info.frames < count else 0.0
            say(cut=info.frames == most and capture.grab(), promised_s=promised_s)
    except VideoError as error:
        say(error=str(error).removeprefix(f"{VIDEO}: "))
    except (MemoryError, cv2.error):
        say(error="it needs more memory than a video is given here, or it is damaged.")


if __name__ == "__main__":
    main()
