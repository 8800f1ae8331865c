"""Decode once: a store of scaled-down frames that every later epoch reads (notebook 04).

    <store_dir>/<dataset>-<hash of its path>/<settings>/
        store.json            version and settings
        3f/3f09...bin         one file per video, named by its identity: name, size and time of change

A file appears in one step when its last frame is written: what is there is done, nothing half-written is ever read, and
a build that was killed goes on where it stopped. A changed video is decoded again; other settings make another store.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from joblib import cpu_count
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from varec_lib.config import TrainConfig
from varec_lib.data.decode import cv2
from varec_lib.data.store_writer import Decoding, StoredVideo, StoreSettings, expected_bytes
from varec_lib.errors import StoreError
from varec_lib.files import gigabytes, lacking, locked, write_text

FORMAT = 2
INFO = {"frames": int, "fps": float, "height": int, "width": int}  # as `probe` gives them


class FrameStore:
    """The store of one dataset folder under one choice of settings."""

    def __init__(self, data_dir: Path | str, store_dir: Path | str, settings: StoreSettings) -> None:
        self.root = os.path.realpath(Path(data_dir).expanduser())
        digest = hashlib.sha256(self.root.encode()).hexdigest()[:8]
        place = Path(store_dir).expanduser() / f"{os.path.basename(self.root)}-{digest}"
        self.folder = place / settings.folder_name()
        self.settings = settings
        self.videos: dict[str, StoredVideo] = {}  # by key, as far as they were looked at
        self.key_of: dict[str, str] = {}  # by path, as `update` found them: a training goes on with those frames

    @classmethod
    def of(cls, config: TrainConfig) -> "FrameStore":
        """The store that a training run with this configuration uses."""
        return cls(config.data_dir, config.store_dir, StoreSettings(config.stored_short_side, config.fps, config.store))

    def update(
        self, table: pd.DataFrame, *, progress: bool = True, num_workers: int | None = None
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Decodes what is missing or has changed, with all processors; returns what `check_videos` returns.

        A second process that wants the same store waits for the first. Raises `StoreError` where the store was
        written by another version, the disk is too small or full, or a decoding process dies; finished videos stay.
        """
        self._prepare()
        keys = self._keys(table)
        self.key_of |= zip(table["path"], keys, strict=True)
        if self._missing(keys):  # a finished store may lie on a disk that cannot be written
            with self._locked():
                rows = self._missing(keys)
                damaged = sum(file_of(self.folder, keys[row]).exists() for row in rows)
                if damaged:
                    print(f"Frame store: {damaged} of its files are damaged; their videos are decoded again.")
                if rows:
                    self._decode(table["path"].to_numpy()[rows], [keys[row] for row in rows], progress, num_workers)
                    self._missing(keys)
        return self._as_checked(table, keys)

    def is_complete(self, table: pd.DataFrame) -> bool:
        """Whether `update` would find every video decoded."""
        return not self._missing(self._keys(table))

    def frames_of(self, table: pd.DataFrame) -> "StoredFrames":
        """The stored frames of these rows, in their order, after `update`."""
        keys = [self.key_of[path] for path in table["path"]]
        return StoredFrames(self.folder, self.settings.form, keys, [self.videos[key] for key in keys])

    def __str__(self) -> str:
        return f"{os.path.basename(self.root)}/{self.settings.folder_name()}"

    def used_bytes(self) -> tuple[int, int]:
        """Bytes of the store's files, and how many of them belong to videos that have changed since."""
        names, total, unused = {video.name for video in self.videos.values()}, 0, 0
        for file in self.folder.glob("*/*.bin"):
            size = file.stat().st_size
            total += size
            if file.stem not in self.videos:
                former = StoredVideo.read(file, self.settings.form)
                unused += size if former and former.name in names else 0
        return total, unused

    def _prepare(self) -> None:
        wanted = {"format": FORMAT, **asdict(self.settings)}
        file = self.folder / "store.json"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not file.exists():
                write_text(file, json.dumps(wanted) + "\n")
            found = json.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise self._unwritable(error) from error
        except ValueError as error:
            raise StoreError(f"{file}: damaged ({error}). Delete the folder {self.folder}.") from error
        if found != wanted:
            version = found.get("format") if isinstance(found, dict) else found
            raise StoreError(
                f"{self.folder}: written by another version (format {version}, this one reads {FORMAT}) or for other "
                "settings. Delete the folder, or choose another --store_dir."
            )

    def _unwritable(self, error: OSError) -> StoreError:
        return StoreError(
            f"{self.folder}: no frame store can be written there ({error.strerror}). "
            "Choose another --store_dir, or --store off."
        )

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        def waiting() -> None:
            print(f"Another process is filling frame store {self}: waiting for it.", flush=True)

        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(locked(self.folder / ".lock", waiting))
            except OSError as error:
                raise self._unwritable(error) from error
            yield

    def _name(self, path: str) -> str:
        prefix = self.root + os.sep
        return path[len(prefix) :] if path.startswith(prefix) else os.path.relpath(path, self.root)

    def _keys(self, table: pd.DataFrame) -> list[str]:
        """What each video's file is called; empty for a video that is not there."""
        keys = []
        for path in table["path"]:
            try:
                stat = os.stat(path)
            except OSError:
                keys.append("")
                continue
            identity = f"{self._name(path)}/{stat.st_size}/{stat.st_mtime_ns}"
            keys.append(hashlib.blake2b(os.fsencode(identity), digest_size=12).hexdigest())
        return keys

    def _missing(self, keys: list[str]) -> list[int]:
        """Rows of videos that are there, but not in the store as they are now; each once."""
        rows = []
        for row, key in enumerate(keys):
            if key and key not in self.videos:
                video = StoredVideo.read(file_of(self.folder, key), self.settings.form)
                if video:
                    self.videos[key] = video
                else:
                    rows.append(row)
        return list({keys[row]: row for row in reversed(rows)}.values())[::-1]

    def _decode(self, paths: np.ndarray, keys: list[str], progress: bool, num_workers: int | None) -> None:
        self._check_space(paths)
        workers = min(cpu_count() if num_workers is None else num_workers, len(paths))
        names = [self._name(path) for path in paths]
        decoding = Decoding(paths, names, [file_of(self.folder, key) for key in keys], self.settings).watched(workers)
        loader = DataLoader(
            decoding, batch_size=None, num_workers=workers, in_order=False, collate_fn=_unchanged,
            generator=torch.Generator(),
        )  # fmt: skip
        results = iter(loader)
        bar = tqdm(total=len(paths), desc="decoding once", unit="video", leave=False, disable=not progress)
        try:
            with bar:
                for _, error in results:
                    if error:
                        raise error
                    bar.update()
        except OSError as error:
            raise StoreError(
                f"{self.folder}: the frame store could not be written ({error.strerror}). Finished videos "
                "are kept. Make room, or choose --store jpeg, --fps, another --store_dir, or --store off."
            ) from error
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            reading = ", ".join(os.path.basename(paths[row]) for row in decoding.current.tolist() if row >= 0)
            raise StoreError(
                f"A decoding process died while reading one of: {reading}. A damaged video or too little memory can be "
                "the cause. Finished videos are kept; run again, without that video if it happens again."
            ) from error
        finally:
            if workers:
                results._shutdown_workers()  # a traceback that is held would keep them at work

    def _check_space(self, paths: np.ndarray) -> None:
        """Says how much disk the rest will take, judging by up to 16 of the videos; refuses if there is less."""
        sizes = [expected_bytes(path, self.settings) for path in paths[:: -(-len(paths) // 16)]]
        known = [size for size in sizes if size is not None]
        sane = np.minimum(known, 10 * np.median(known)) if known else [0]  # headers may lie about the number of frames
        need = int(np.mean(sane) * len(paths))
        if lack := lacking(self.folder, need):
            smaller = "" if self.settings.form == "jpeg" else "--store jpeg (about a tenth), "
            raise StoreError(
                f"The frame store needs about {lack}. "
                f"Choose {smaller}--fps 15 or less, a smaller --short_side, another --store_dir, or --store off."
            )
        print(f"Decoding {len(paths)} videos once into frame store {self}: about {gigabytes(need)}", flush=True)

    def _as_checked(self, table: pd.DataFrame, keys: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
        absent = StoredVideo("", problem="no such file. Check the name in the CSV, or the folder.")
        videos = [self.videos[key] if key else absent for key in keys]
        usable = [not video.problem for video in videos]
        good, bad = table[usable].reset_index(drop=True), table[[not ok for ok in usable]].reset_index(drop=True)
        for column, kind in INFO.items():
            values = [getattr(video, column) for video in videos if not video.problem]
            good[column] = pd.Series(values, dtype=kind)
        problems = [video.problem for video in videos if video.problem]
        return good, bad.assign(problem=[f"{path}: {said}" for path, said in zip(bad["path"], problems, strict=True)])


class StoredFrames:
    """Frames of the rows of a table, read from the store; the same interface as `VideoFiles`."""

    def __init__(self, folder: Path, form: str, keys: list[str], videos: list[StoredVideo]) -> None:
        self.folder, self.form = folder, form
        # Arrays, not lists: workers share them, where reference counts of list items would copy them bit by bit.
        self.keys = np.array(keys, "S24")
        self.frames = np.array([video.kept for video in videos], np.int32)
        self.bytes = np.array([video.frame_bytes for video in videos], np.int64)
        self.shapes = np.array([(video.stored_height, video.stored_width) for video in videos], np.int32).reshape(-1, 2)

    def read(self, row: int, indices: list[int]) -> torch.Tensor:
        """Frames of the video in this row as uint8 RGB `(T, C, H, W)`; touches no others."""
        file = os.open(self._file(row), os.O_RDONLY)
        try:
            frames = self._jpegs(file, row, indices) if self.form == "jpeg" else self._raw(file, row, indices)
        finally:
            os.close(file)
        return torch.from_numpy(frames).permute(0, 3, 1, 2)

    def times(self, row: int) -> np.ndarray:
        """When the video in this row shows its frames, in seconds as its file tells it, float64 `(frames,)`."""
        with self._file(row).open("rb") as stream:
            stream.seek(self.bytes[row])
            return np.frombuffer(stream.read(8 * int(self.frames[row])), np.float64)

    def _file(self, row: int) -> Path:
        return file_of(self.folder, self.keys[row].decode())

    def _raw(self, file: int, row: int, indices: list[int]) -> np.ndarray:
        frames = np.empty((len(indices), *self.shapes[row], 3), np.uint8)
        for frame, index in zip(frames, indices, strict=True):
            if os.preadv(file, [frame], index * frame.nbytes) != frame.nbytes:
                raise StoreError(f"{self._file(row)}: shorter than it was. Run again to decode it anew.")
        return frames

    def _jpegs(self, file: int, row: int, indices: list[int]) -> np.ndarray:
        kept, end = int(self.frames[row]), int(self.bytes[row])
        sizes = np.frombuffer(os.pread(file, 4 * kept, end + 8 * kept), np.uint32).astype(np.int64)
        ends = np.cumsum(sizes)
        pictures = (os.pread(file, int(sizes[i]), int(ends[i] - sizes[i])) for i in indices)
        return np.stack([cv2.imdecode(np.frombuffer(p, np.uint8), cv2.IMREAD_COLOR_RGB) for p in pictures])


def file_of(folder: Path, key: str) -> Path:
    """Where a video lies in a store; a folder with all of a large dataset would be slow."""
    return folder / key[:2] / f"{key}.bin"


def _unchanged(item: tuple) -> tuple:
    return item
