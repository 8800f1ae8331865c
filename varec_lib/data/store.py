"""Decode once: a store of scaled-down frames that every later epoch reads (notebook 04).

    <store_dir>/<dataset>-<hash of its path>/<settings>/
        store.json            version and settings
        3f/3f09...bin         one file per video, named by its identity: name, size and time of change

A file appears in one step when its last frame is written: what is there is done, nothing half-written is ever read, and
a build that was killed goes on where it stopped. A changed video is decoded again; other settings make another store.
"""

import hashlib
import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from joblib import cpu_count
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from varec_lib.config import TrainConfig
from varec_lib.data.check import split_usable
from varec_lib.data.frame_folder import state_of
from varec_lib.data.manifest import rates_of, segments_of
from varec_lib.data.store_writer import StoredVideo, expected_bytes, store_video
from varec_lib.data.thinning import KeptFrames
from varec_lib.data.video import NO_FILE
from varec_lib.errors import StoreError
from varec_lib.files import check_room, filling, gigabytes, write_text

FORMAT = 3


class FrameStore:
    """The store of one dataset folder, of frames with `short_side` and `fps` as in `ClipSpec`.

    `form` is raw (pixels) or jpeg.
    """

    def __init__(
        self, data_dir: Path | str, store_dir: Path | str, short_side: int, fps: float, form: str = "raw"
    ) -> None:
        self.root = os.path.realpath(Path(data_dir).expanduser())
        digest = hashlib.sha256(self.root.encode()).hexdigest()[:8]
        place = Path(store_dir).expanduser() / f"{os.path.basename(self.root)}-{digest}"
        self.folder = place / f"{short_side}px-{f'{fps:.10g}fps' if fps else 'all'}-{form}"
        self.settings = {"short_side": short_side, "fps": fps, "form": form}
        self._description, self._described = self.folder / "store.json", {"format": FORMAT, **self.settings}
        self.videos: dict[str, StoredVideo] = {}  # by key, as far as they were looked at
        self.key_of: dict[str, str] = {}  # by path, as `update` found them: a training goes on with those frames

    @classmethod
    def of(cls, config: TrainConfig) -> "FrameStore":
        """The store that a training run with this configuration uses."""
        return cls(config.data_dir, config.store_dir, config.stored_short_side, config.fps, config.store)

    def update(
        self, table: pd.DataFrame, *, progress: bool = True, num_workers: int | None = None
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Decodes what is missing or has changed, with all processors; returns what `check_videos` returns.

        A second process that wants the same store waits for the first. Raises `StoreError` where the store was
        written by another version, the disk is too small or full, or a decoding process dies; finished videos stay.
        """
        keys = self.keys(table)
        self._check_description()
        self.key_of |= keys
        if self._missing(keys):  # a finished store may lie on a disk that cannot be written
            with filling(self.folder, f"Another process is filling frame store {self}: waiting for it."):
                if not self._description.exists():
                    write_text(self._description, json.dumps(self._described) + "\n")
                missing = self._missing(keys)
                damaged = sum(file_of(self.folder, keys[path]).exists() for path in missing)
                if damaged:
                    print(f"Frame store: {damaged} of its files are damaged; their videos are decoded again.")
                if missing:
                    self._decode(missing, dict(zip(table["path"], rates_of(table), strict=True)), progress, num_workers)
                    self._missing(keys)
        absent = StoredVideo(name="", problem=NO_FILE)
        return split_usable(table, (self.videos[keys[path]] if keys[path] else absent for path in table["path"]))

    def is_complete(self, table: pd.DataFrame) -> bool:
        """Whether `update` would find every video decoded."""
        return not self._missing(self.keys(table))

    def frames_of(self, table: pd.DataFrame) -> "StoredFrames":
        """The stored frames of these rows, in their order, after `update`."""
        keys = [self.key_of[path] for path in table["path"]]
        return StoredFrames(self.folder, self.settings, keys, [self.videos[key] for key in keys], segments_of(table))

    def __str__(self) -> str:
        return f"{os.path.basename(self.root)}/{self.folder.name}"

    def used_bytes(self) -> tuple[int, int]:
        """Bytes of the store's files, and of those whose videos have changed since or were not in an updated table."""
        sizes = {file.stem: file.stat().st_size for file in self.folder.glob("*/*.bin")}
        return sum(sizes.values()), sum(size for key, size in sizes.items() if key not in self.videos)

    def _check_description(self) -> None:
        """Raises `StoreError` where the folder holds the store of another version, or of other settings."""
        try:
            found = json.loads(self._description.read_text(encoding="utf-8"))
        except ValueError:
            found = None
        except OSError:  # nothing is stored yet
            return
        if found != self._described:
            version = found.get("format") if isinstance(found, dict) else "unknown"
            raise StoreError(
                f"{self._description}: damaged, of another version (format {version}, this one reads {FORMAT}) or for "
                f"other settings. Delete the folder, or choose another --store_dir."
            )

    def _name(self, path: str) -> str:
        prefix = self.root + os.sep
        return path[len(prefix) :] if path.startswith(prefix) else os.path.relpath(path, self.root)

    def keys(self, table: pd.DataFrame) -> dict[str, str]:
        """A hash of each video's name, size and time of change, by its path; empty for a video that is not there."""
        keys = {}
        for path, rate in zip(table["path"], rates_of(table), strict=True):
            try:
                size, changed = state_of(path, rate)
            except OSError:
                keys[path] = ""
                continue
            identity = f"{self._name(path)}/{size}/{changed}"
            keys[path] = hashlib.blake2b(os.fsencode(identity), digest_size=12).hexdigest()
        return keys

    def _missing(self, keys: dict[str, str]) -> list[str]:
        """Paths of videos that are there, but not in the store as they are now."""
        missing = []
        for path, key in keys.items():
            if key and key not in self.videos:
                video = StoredVideo.read(file_of(self.folder, key), self.settings["form"])
                if video:
                    self.videos[key] = video
                else:
                    missing.append(path)
        return missing

    def _decode(self, paths: list[str], rates: dict[str, float], progress: bool, num_workers: int | None) -> None:
        self._check_space(paths)
        workers = min(cpu_count() if num_workers is None else num_workers, len(paths))
        files = [file_of(self.folder, self.key_of[path]) for path in paths]
        videos = [(path, rates[path], self._name(path), file) for path, file in zip(paths, files, strict=True)]
        # A DataLoader as process pool, because its workers end with this process and it notices when one dies.
        loader = DataLoader(
            videos, batch_size=None, num_workers=workers, in_order=False,
            collate_fn=partial(_stored, self.settings), generator=torch.Generator(),
        )  # fmt: skip
        results = iter(loader)
        try:
            with tqdm(total=len(paths), desc="decoding once", unit="video", leave=False, disable=not progress) as bar:
                for error in results:
                    if error:
                        raise error
                    bar.update()
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            begun = {file.name.split(".")[0] for file in self.folder.glob("*/*.partial")}
            reading = ", ".join(os.path.basename(path) for path in paths if self.key_of[path] in begun)
            raise StoreError(
                f"A decoding process died while reading one of: {reading}. A damaged video or too little memory can be "
                "the cause. Finished videos are kept; run again, without that video if it happens again."
            ) from error
        finally:
            if workers:
                results._shutdown_workers()  # a traceback that is held would keep them at work

    def _check_space(self, paths: list[str]) -> None:
        """Says how much disk the rest will take, judging by up to 16 of the videos; refuses if there is less."""
        sizes = [expected_bytes(path, **self.settings) for path in paths[:: -(-len(paths) // 16)]]
        known = [size for size in sizes if size is not None]
        sane = np.minimum(known, 10 * np.median(known)) if known else [0]  # headers may promise millions of frames
        need = int(np.mean(sane) * len(paths))
        smaller = "" if self.settings["form"] == "jpeg" else "--store jpeg (about a tenth), "
        advice = f"{smaller}--fps 15 or less, a smaller --short_side, another --store_dir, or --store off"
        check_room(self.folder, need, advice)
        print(f"Decoding {len(paths)} videos once into frame store {self}: about {gigabytes(need)}", flush=True)


class StoredFrames:
    """Frames of the rows of a table, read from the store; the same interface as `VideoFiles`."""

    def __init__(
        self,
        folder: Path,
        settings: dict[str, Any],
        keys: list[str],
        videos: list[StoredVideo],
        segments: list[tuple[float, float]],
    ) -> None:
        self.folder, self.form = folder, settings["form"]
        # Arrays, not lists: workers share them, where reference counts of list items would copy them bit by bit.
        self.keys = np.array(keys, "S24")
        self.kept = KeptFrames([(video.times, video.promised_s) for video in videos], settings["fps"], segments)
        self.frames, self.times = self.kept.frames, self.kept.times
        self.stored = np.array([video.kept for video in videos], np.int32)
        self.bytes = np.array([video.frame_bytes for video in videos], np.int64)
        self.shapes = np.array([(video.stored_height, video.stored_width) for video in videos], np.int32).reshape(-1, 2)

    def read(self, row: int, indices: list[int]) -> torch.Tensor:
        """Frames of the video in this row as uint8 RGB `(T, C, H, W)`; touches no others."""
        if first := int(self.kept.before[row]):
            indices = [first + index for index in indices]
        file = os.open(self._file(row), os.O_RDONLY)
        try:
            frames = self._jpegs(file, row, indices) if self.form == "jpeg" else self._raw(file, row, indices)
        finally:
            os.close(file)
        return torch.from_numpy(frames).permute(0, 3, 1, 2)

    def _file(self, row: int) -> Path:
        return file_of(self.folder, self.keys[row].decode())

    def _raw(self, file: int, row: int, indices: list[int]) -> np.ndarray:
        frames = np.empty((len(indices), *self.shapes[row], 3), np.uint8)
        for frame, index in zip(frames, indices, strict=True):
            if os.preadv(file, [frame], index * frame.nbytes) != frame.nbytes:
                raise StoreError(f"{self._file(row)}: shorter than it was. Run again to decode it anew.")
        return frames

    def _jpegs(self, file: int, row: int, indices: list[int]) -> np.ndarray:
        kept, end = int(self.stored[row]), int(self.bytes[row])
        sizes = np.frombuffer(os.pread(file, 4 * kept, end), np.uint32).astype(np.int64)
        ends = np.cumsum(sizes)
        pictures = (os.pread(file, int(sizes[i]), int(ends[i] - sizes[i])) for i in indices)
        return np.stack([cv2.imdecode(np.frombuffer(p, np.uint8), cv2.IMREAD_COLOR_RGB) for p in pictures])


def file_of(folder: Path, key: str) -> Path:
    """Where a video lies in a store; a folder with all of a large dataset would be slow."""
    return folder / key[:2] / f"{key}.bin"


def _stored(settings: dict[str, Any], video: tuple[str, float, str, Path]) -> OSError | None:
    """Stores a video; an error is returned, because one that a worker raises arrives as text only."""
    try:
        store_video(*video, **settings)
    except FileNotFoundError as error:  # unless a worker that outlived its killed process was faster, and cleared up
        return None if video[-1].exists() else error
    except OSError as error:
        return error
