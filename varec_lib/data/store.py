"""Decode once: a store of scaled-down frames that every later epoch reads from a memory map (notebook 04).

    <store_dir>/<dataset>-<hash of its path>/<settings>/
        store.json            version and settings
        index.csv             one line per video: its identity (name, size, time of change) and where its frames lie
        frames-00.bin ...     the frames, one file per decoding process, each video in one piece

A video enters the index after its last frame is written, so nothing half-written is ever read, and a build that was
killed goes on where it stopped. A changed video is decoded again; other settings make another store.
"""

import contextlib
import csv
import hashlib
import io
import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from filelock import FileLock, Timeout
from joblib import cpu_count
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from varec_lib.config import TrainConfig
from varec_lib.data.decode import cv2
from varec_lib.data.store_writer import Decoding, StoreSettings, expected_bytes, writing
from varec_lib.errors import StoreError

FORMAT = 1
IDENTITY = ["name", "size", "mtime_ns"]
PLACE = ["shard", "offset", "bytes", "kept", "stored_height", "stored_width"]
INFO = ["frames", "fps", "height", "width"]  # as `probe` gives them
COLUMNS = [*IDENTITY, *PLACE, *INFO, "problem"]
HEADER = ",".join(COLUMNS).encode()
KINDS = dict.fromkeys(COLUMNS, np.int64) | {"name": str, "fps": np.float64, "problem": str}


class FrameStore:
    """The store of one dataset folder under one choice of settings."""

    def __init__(self, data_dir: Path | str, store_dir: Path | str, settings: StoreSettings) -> None:
        self.root = os.path.realpath(Path(data_dir).expanduser())
        digest = hashlib.sha256(self.root.encode()).hexdigest()[:8]
        place = Path(store_dir).expanduser() / f"{os.path.basename(self.root)}-{digest}"
        self.folder = place / settings.folder_name()
        self.settings = settings
        self.index = pd.DataFrame(columns=COLUMNS).set_index("name", drop=False)
        self._ends: dict[int, int] = {}  # of each file, where the last video that was ever indexed ends

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
        found = self._identities(table)
        self.index, _ = self._read_index()
        if len(self._outdated(found)):  # a finished store may lie on a disk that cannot be written
            with self._locked():
                self.index, lost = self._read_index(mend=True)
                if lost:
                    print(f"Frame store: {lost} videos lie beyond the end of a truncated file and are decoded again.")
                rows = self._outdated(found)
                if len(rows):
                    self._decode(table["path"].to_numpy()[rows], found.iloc[rows], progress, num_workers)
                    self.index, _ = self._read_index()
        return self._as_checked(table, found)

    def is_complete(self, table: pd.DataFrame) -> bool:
        """Whether `update` would find every video decoded."""
        self.index, _ = self._read_index()
        return not len(self._outdated(self._identities(table)))

    def frames_of(self, table: pd.DataFrame) -> "StoredFrames":
        """The stored frames of these rows, in their order, after `update`."""
        return StoredFrames(self.folder, self.settings.form, self.index.loc[self._names(table)])

    def __str__(self) -> str:
        return f"{os.path.basename(self.root)}/{self.settings.folder_name()}"

    def used_bytes(self) -> tuple[int, int]:
        """Bytes of the store's files, and how many of them belong to videos that have changed since."""
        total = sum(file.stat().st_size for file in self.folder.glob("frames-*.bin"))
        return total, total - int(self.index["bytes"].sum())

    def _prepare(self) -> None:
        about = {"format": FORMAT, **asdict(self.settings)}
        file = self.folder / "store.json"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not file.exists():
                partial = file.with_name(f"store.json.{os.getpid()}.partial")
                partial.write_text(json.dumps(about) + "\n", encoding="utf-8")
                os.replace(partial, file)
            found = json.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise self._unwritable(error) from error
        except ValueError as error:
            raise StoreError(f"{file}: damaged ({error}). Delete the folder {self.folder}.") from error
        if found != about:
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
    def _locked(self):
        lock = FileLock(self.folder / ".lock")
        try:
            lock.acquire(timeout=0.3)
        except Timeout:
            print(f"Another process is filling frame store {self}: waiting for it.", flush=True)
            lock.acquire()
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            yield
        finally:
            lock.release()

    def _read_index(self, *, mend: bool = False) -> tuple[pd.DataFrame, int]:
        """The index, newest line of each video, and how many lines point beyond the end of their file."""
        file = self.folder / "index.csv"
        text = file.read_bytes() if file.exists() else b""
        whole = text[: text.rfind(b"\n") + 1]  # a killed process may have left half a line
        try:
            index = pd.read_csv(io.BytesIO(whole or HEADER), dtype=KINDS, keep_default_na=False)[COLUMNS]
        except (ValueError, KeyError) as error:
            said = " ".join(str(error).split())
            raise StoreError(f"{file}: damaged ({said}). Delete the folder {self.folder}.") from error
        sizes = {shard: _size(self._shard(shard)) for shard in index["shard"].unique()}
        lost = index["offset"] + index["bytes"] > index["shard"].map(sizes)
        newest = ~index["name"].duplicated(keep="last")
        if mend and (lost.any() or whole != text or not whole):  # others will take the place that lost lines name
            partial = file.with_name("index.csv.partial")
            _write_lines(partial, [COLUMNS, *index[~lost].to_numpy(object).tolist()], "w")
            os.replace(partial, file)
        # A process that started earlier may still read the former frames of a video that was replaced since.
        ends = (index["offset"] + index["bytes"])[~lost].groupby(index["shard"]).max()
        self._ends = {int(shard): int(end) for shard, end in ends.items()}
        index = index[newest & ~lost].set_index("name", drop=False).rename_axis(index=None)
        return index, int((newest & lost).sum())

    def _outdated(self, found: pd.DataFrame) -> np.ndarray:
        """Rows of videos that are not in the index as they are now."""
        known = self.index.reindex(found["name"]).reset_index(drop=True)
        same = (known["size"] == found["size"]) & (known["mtime_ns"] == found["mtime_ns"])
        return np.flatnonzero((found["size"] >= 0) & ~same & ~found["name"].duplicated())

    def _shard(self, number: int) -> Path:
        return self.folder / f"frames-{number:02d}.bin"

    def _names(self, table: pd.DataFrame) -> list[str]:
        prefix = self.root + os.sep
        return [p[len(prefix) :] if p.startswith(prefix) else os.path.relpath(p, self.root) for p in table["path"]]

    def _identities(self, table: pd.DataFrame) -> pd.DataFrame:
        sizes, times = np.full(len(table), -1, np.int64), np.full(len(table), -1, np.int64)
        for row, path in enumerate(table["path"]):
            with contextlib.suppress(OSError):
                stat = os.stat(path)
                sizes[row], times[row] = stat.st_size, stat.st_mtime_ns
        return pd.DataFrame({"name": self._names(table), "size": sizes, "mtime_ns": times})

    def _decode(self, paths: np.ndarray, found: pd.DataFrame, progress: bool, num_workers: int | None) -> None:
        self._check_space(paths)
        for file in self.folder.glob("frames-*.bin"):  # cut off what a killed process left behind its last video
            with contextlib.suppress(OSError), writing(file):
                os.truncate(file, self._ends.get(int(file.stem.split("-")[1]), 0))
        workers = min(cpu_count() if num_workers is None else num_workers, len(paths))
        decoding = Decoding(paths, self.folder, self.settings, max(workers, 1))
        loader = DataLoader(
            decoding, batch_size=None, num_workers=workers, in_order=False, collate_fn=_unchanged,
            generator=torch.Generator(),
        )  # fmt: skip
        results = iter(loader)
        bar = tqdm(total=len(paths), desc="decoding once", unit="video", leave=False, disable=not progress)
        identities = found[IDENTITY].to_numpy(object)
        try:
            with bar:
                for row, result in results:
                    if isinstance(result, OSError):
                        raise result
                    _write_lines(self.folder / "index.csv", [[*identities[row], *result]], "a")
                    bar.update()
        except OSError as error:
            raise StoreError(
                f"{self.folder}: the frame store could not be written ({error.strerror}). Finished videos "
                "are kept. Make room, or choose --store jpeg, --fps, another --store_dir, or --store off."
            ) from error
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            names = ", ".join(os.path.basename(paths[row]) for row in decoding.current.tolist() if row >= 0)
            raise StoreError(
                f"A decoding process died while reading one of: {names}. A damaged video or too little memory can be "
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
        free = shutil.disk_usage(self.folder).free
        if need > free:
            smaller = "" if self.settings.form == "jpeg" else "--store jpeg (about a tenth), "
            raise StoreError(
                f"The frame store needs about {gigabytes(need)}, but {self.folder} has {gigabytes(free)} free. "
                f"Choose {smaller}--fps 15 or less, a smaller --short_side, another --store_dir, or --store off."
            )
        print(f"Decoding {len(paths)} videos once into frame store {self}: about {gigabytes(need)}", flush=True)

    def _as_checked(self, table: pd.DataFrame, found: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
        known = self.index.reindex(found["name"]).reset_index(drop=True)
        known.index = table.index
        problem = known["problem"].fillna("")
        problem = problem.where(problem == "", table["path"] + ": " + problem)
        missing = (found["size"] < 0).to_numpy()
        problem[missing] = table["path"][missing] + ": no such file. Check the name in the CSV, or the folder."
        good = pd.concat([table, known[INFO]], axis=1)[problem == ""]
        good = good.astype({"frames": int, "fps": float, "height": int, "width": int})
        bad = table[problem != ""].assign(problem=problem[problem != ""])
        return good.reset_index(drop=True), bad.reset_index(drop=True)


class StoredFrames:
    """Frames of the rows of a table, read from the store; the same interface as `VideoFiles`."""

    def __init__(self, folder: Path, form: str, rows: pd.DataFrame) -> None:
        self.folder, self.form = folder, form
        self.frames = rows["kept"].to_numpy(np.int32)
        self.shards = rows["shard"].to_numpy(np.int32)
        self.offsets, self.bytes = rows["offset"].to_numpy(np.int64), rows["bytes"].to_numpy(np.int64)
        self.shapes = rows[["stored_height", "stored_width"]].to_numpy(np.int32)
        self._maps: dict[int, np.memmap] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_maps": {}}  # every process maps the files by itself

    def read(self, row: int, indices: list[int]) -> torch.Tensor:
        """Frames of the video in this row as uint8 RGB `(T, C, H, W)`; touches no others."""
        shard = int(self.shards[row])
        if shard not in self._maps:
            self._maps[shard] = np.memmap(self.folder / f"frames-{shard:02d}.bin", np.uint8, "r")
        block = self._maps[shard][self.offsets[row] : self.offsets[row] + self.bytes[row]]
        if self.form == "jpeg":
            ends = np.cumsum(np.frombuffer(block[-4 * self.frames[row] :].tobytes(), np.uint32), dtype=np.int64)
            starts = np.concatenate([[0], ends[:-1]])
            frames = np.stack(
                [cv2.imdecode(np.asarray(block[starts[i] : ends[i]]), cv2.IMREAD_COLOR_RGB) for i in indices]
            )
        else:
            frames = np.asarray(block).reshape(self.frames[row], *self.shapes[row], 3)[indices]
        return torch.from_numpy(frames).permute(0, 3, 1, 2)


def _unchanged(item: Any) -> Any:
    return item


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def gigabytes(count: int) -> str:
    """A number of bytes as people read it."""
    return f"{count / 1e9:.1f} GB" if count >= 5e7 else f"{count / 1e6:.1f} MB"


def _write_lines(file: Path, lines: list[list[Any]], mode: str) -> None:
    with file.open(mode, encoding="utf-8", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows(lines)
