"""Damaged videos by the hundred: nothing crashes, nothing hangs, and nothing is raised but what a user can read.

A few of them each time; `make fuzz` tries 500, or as many as VAREC_FUZZ says.
"""

import os
import queue
import subprocess
import sys
import threading
from pathlib import Path

import pytest

COUNT = int(os.environ.get("VAREC_FUZZ", "24"))
AT_ONCE = 250  # damages that one process tries
HANGS_S = 60.0  # without the next one: far more than the ten seconds that any may take on an idle machine
MADE = {
    "h264.mp4": ["-c:v", "libx264"],
    "vp8.webm": ["-c:v", "libvpx"],
    "mjpeg.avi": ["-c:v", "mjpeg"],
    "xvid.mkv": ["-c:v", "mpeg4"],
    "interlaced.mts": ["-vf", "interlace", "-flags", "+ildct+ilme", "-c:v", "mpeg2video", "-f", "mpegts"],
    "animated.gif": [],
    "turned.mov": ["-c:v", "libx264", "-movflags", "+faststart"],
}


@pytest.fixture(scope="module")
def videos(tmp_path_factory, ffmpeg, request) -> list[Path]:
    """Small videos of many kinds, and real ones where they are here."""
    folder = tmp_path_factory.mktemp("fuzz")
    for name, how in MADE.items():
        ffmpeg("-f", "lavfi", "-i", "testsrc2=s=96x72:r=25:d=1.5", *how, folder / name)
    try:
        real = sorted((request.getfixturevalue("ucf5") / "videos").glob("*.avi"))[::40]
    except pytest.skip.Exception:
        real = []
    return [*sorted(folder.iterdir()), *real]


def lines_of(process: subprocess.Popen) -> queue.Queue:
    """What a process prints, line by line, as it comes."""
    lines: queue.Queue = queue.Queue()

    def read() -> None:
        for line in process.stdout:
            lines.put(line.strip())
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    return lines


@pytest.mark.timeout(0 if COUNT > AT_ONCE else 300)
def test_damaged_videos_are_read_or_refused(videos, tiny_checkpoint, tmp_path):
    for first in range(0, COUNT, AT_ONCE):
        words = [tiny_checkpoint, tmp_path, first, min(first + AT_ONCE, COUNT), *videos]
        command = [sys.executable, str(Path(__file__).with_name("fuzzing.py")), *map(str, words)]
        place = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
        errors = tmp_path / "errors"
        with (
            errors.open("w") as stderr,
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=place) as process,
        ):
            lines, latest = lines_of(process), "start"
            try:
                while (line := lines.get(timeout=HANGS_S)) not in (None, "done"):
                    latest = line
            except queue.Empty:
                process.kill()
                pytest.fail(f"damage {latest} takes more than {HANGS_S:.0f} s")
            process.wait(HANGS_S)
        assert process.returncode == 0, f"damage {latest} ends with {process.returncode}: {errors.read_text()[-3000:]}"
        assert line == "done"
