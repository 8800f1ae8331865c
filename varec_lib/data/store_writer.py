"""How frames get into the store: what each decoding process does with a video."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from torch.utils.data import Dataset, get_worker_info

from varec_lib.data.decode import cv2, decode_video, read_header
from varec_lib.data.thinning import kept_counts
from varec_lib.errors import VideoError

JPEG_QUALITY = 90


@dataclass(frozen=True)
class StoreSettings:
    """What decides the stored frames: shorter side in pixels, frames per second (0: all), raw pixels or JPEG."""

    short_side: int
    fps: float
    form: str = "raw"

    def folder_name(self) -> str:
        rate = f"{self.fps:.10g}fps" if self.fps else "all"
        return f"{self.short_side}px-{rate}-{self.form}"


def writing(file: Path) -> FileLock:
    """Held while a video is written: a process may outlive the build that started it, and write its last video."""
    return FileLock(file.with_suffix(".lock"))


class Decoding(Dataset):
    """Item `row` decodes that video to the end of this process's file, and says where its frames lie."""

    def __init__(self, paths: np.ndarray, folder: Path, settings: StoreSettings, workers: int) -> None:
        self.paths = np.array([os.fsencode(path) for path in paths])
        self.folder, self.settings = folder, settings
        self.current = torch.full((workers,), -1, dtype=torch.int64).share_memory_()  # what each process is reading

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> tuple[int, list[Any] | OSError]:
        worker = get_worker_info()
        shard = worker.id if worker else 0
        self.current[shard] = row
        try:
            shard_file = self.folder / f"frames-{shard:02d}.bin"
            with writing(shard_file), shard_file.open("ab", buffering=1 << 20) as file:
                return row, self._write(Path(os.fsdecode(self.paths[row])), file, shard)
        except OSError as error:
            return row, error
        finally:
            self.current[shard] = -1

    def _write(self, path: Path, file: Any, shard: int) -> list[Any]:
        start, sizes, shape = file.tell(), [], (0, 0)

        def save(frame: np.ndarray, _: float) -> None:
            nonlocal shape
            shape = frame.shape[:2]
            if self.settings.form == "jpeg":
                frame = _as_jpeg(frame)
            sizes.append(frame.nbytes)
            file.write(frame.data)

        try:
            info = decode_video(path, save, short_side=self.settings.short_side, fps=self.settings.fps)
        except VideoError as error:
            file.truncate(start)
            return [shard, start, 0, 0, 0, 0, 0, 0, 0, 0, str(error).removeprefix(f"{path}: ")]
        if self.settings.form == "jpeg":
            file.write(np.array(sizes, np.uint32).data)
        file.flush()
        size = info.height, info.width
        return [shard, start, file.tell() - start, len(sizes), *shape, info.frames, info.fps, *size, ""]


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
