"""How frames get into the store, and what its files look like.

A file holds one video: its kept frames (raw pixels or JPEGs, one after the other), their times in seconds (float64),
the sizes of the JPEGs (uint32), and at the end its facts as JSON with their length (uint32).
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset, get_worker_info

from varec_lib.data.decode import cv2, decode_video, read_header
from varec_lib.data.thinning import kept_counts
from varec_lib.errors import VideoError
from varec_lib.files import replacing

JPEG_QUALITY = 90
MOST_FACTS = 4096  # bytes


@dataclass(frozen=True)
class StoreSettings:
    """What decides the stored frames: shorter side in pixels, frames per second (0: all), raw pixels or JPEG."""

    short_side: int
    fps: float
    form: str = "raw"

    def folder_name(self) -> str:
        rate = f"{self.fps:.10g}fps" if self.fps else "all"
        return f"{self.short_side}px-{rate}-{self.form}"


@dataclass(frozen=True)
class StoredVideo:
    """Facts of a video in the store: of the file it comes from, and of what is stored; or why it cannot be used."""

    name: str  # below the dataset folder
    frames: int = 0
    fps: float = 0.0
    height: int = 0
    width: int = 0
    kept: int = 0  # frames that are stored
    stored_height: int = 0
    stored_width: int = 0
    frame_bytes: int = 0  # of all kept frames together
    problem: str = ""

    @classmethod
    def read(cls, file: Path, form: str) -> "StoredVideo | None":
        """The facts at the end of a file of the store; None where there is none, or a damaged one."""
        try:
            with file.open("rb") as stream:
                size = os.fstat(stream.fileno()).st_size
                tail = os.pread(stream.fileno(), MOST_FACTS, max(size - MOST_FACTS, 0))
            length = int.from_bytes(tail[-4:], "little")
            found = cls(**json.loads(tail[-4 - length : -4]))
        except (OSError, ValueError, TypeError):
            return None
        rows = found.kept * (12 if form == "jpeg" else 8)
        return found if size == found.frame_bytes + rows + length + 4 else None


class Decoding(Dataset):
    """Item `row` decodes that video into its file of the store; it is the row, and an `OSError` where that failed."""

    def __init__(self, paths: np.ndarray, names: list[str], files: list[Path], settings: StoreSettings) -> None:
        self.paths = np.array([os.fsencode(path) for path in paths])
        self.names, self.files, self.settings = names, files, settings

    def __len__(self) -> int:
        return len(self.paths)

    def watched(self, workers: int) -> "Decoding":
        """Itself, noting in `current` what each process is reading: one that dies cannot say it any more."""
        self.current = torch.full((max(workers, 1),), -1, dtype=torch.int64).share_memory_()
        return self

    def __getitem__(self, row: int) -> tuple[int, OSError | None]:
        worker = get_worker_info()
        self.current[worker.id if worker else 0] = row
        try:
            self.files[row].parent.mkdir(exist_ok=True)
            with replacing(self.files[row]) as partial:
                self._write(Path(os.fsdecode(self.paths[row])), self.names[row], partial)
            return row, None
        except OSError as error:
            return row, error
        finally:
            self.current[worker.id if worker else 0] = -1

    def _write(self, path: Path, name: str, partial: Path) -> None:
        sizes, times, shape = [], [], (0, 0)

        with partial.open("wb", buffering=1 << 20) as stream:

            def save(frame: np.ndarray, time_s: float) -> None:
                nonlocal shape
                shape = frame.shape[:2]
                if self.settings.form == "jpeg":
                    frame = _as_jpeg(frame)
                sizes.append(frame.nbytes)
                times.append(time_s)
                stream.write(frame.data)

            try:
                info = decode_video(path, save, short_side=self.settings.short_side, fps=self.settings.fps)
                facts = StoredVideo(name, **vars(info), kept=len(sizes), stored_height=shape[0], stored_width=shape[1],
                                    frame_bytes=sum(sizes))  # fmt: skip
                stream.write(np.array(times, np.float64).data)
                if self.settings.form == "jpeg":
                    stream.write(np.array(sizes, np.uint32).data)
            except VideoError as error:
                stream.seek(0)
                stream.truncate()
                facts = StoredVideo(name, problem=str(error).removeprefix(f"{path}: ")[: MOST_FACTS // 4])
            text = json.dumps(asdict(facts)).encode()
            stream.write(text + len(text).to_bytes(4, "little"))


def _as_jpeg(frame: np.ndarray) -> np.ndarray:
    bgr = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]


def expected_bytes(path: str, settings: StoreSettings) -> int | None:
    """Bytes that a video will take, from its header and first frame; None where it cannot be read."""
    try:
        info, first = read_header(path, short_side=settings.short_side)
    except VideoError:
        return None
    kept = int(kept_counts(np.array(info.frames), np.array(info.fps), settings.fps))
    return kept * (_as_jpeg(first).nbytes if settings.form == "jpeg" else first.nbytes)
