"""Videos that are already on the server: sample clips of a dataset, and files of a folder that visitors may name."""

import base64
import json
import os
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

import cv2
import pandas as pd
import torch
from platformdirs import user_cache_path

from varec_lib.data.manifest import load_manifest
from varec_lib.data.video import probe, read_frames
from varec_lib.errors import DataError, VideoError
from varec_lib.files import write_text

MOST_SAMPLES = 8
PICTURE_SIDE = 112  # pixels of the shorter side of a picture on the page, at most


@dataclass(frozen=True)
class Sample:
    """A clip to try: what it shows, its file, and a picture of it as JPEG."""

    label: str
    path: Path
    picture: bytes

    def open(self) -> BinaryIO:
        """Its file, open. Raises `VideoError` where it is gone."""
        try:
            return self.path.open("rb")
        except OSError as error:
            raise VideoError("this sample is not there any more.") from error


def as_jpeg(frame: torch.Tensor) -> bytes:
    """A small JPEG of a frame, uint8 RGB `(C, H, W)`."""
    pixels = cv2.cvtColor(frame.permute(1, 2, 0).contiguous().numpy(), cv2.COLOR_RGB2BGR)
    height, width = pixels.shape[:2]
    scale = PICTURE_SIDE / min(height, width)
    if scale < 1:
        pixels = cv2.resize(pixels, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()


def sample_clips(dataset: Path | str) -> list[Sample]:
    """The first readable test clip of each class, of eight classes at most; none where the folder is no dataset.

    Their pictures are made once and kept in the user's cache, because long videos take long to open.
    """
    dataset = Path(dataset).resolve()
    try:
        table = load_manifest(dataset, split="test")
        identity = [str(dataset), *(f"{path} {path.stat().st_mtime_ns}" for path in sorted(dataset.glob("*.csv")))]
    except (DataError, OSError):
        return []
    kept = user_cache_path("varec") / "samples" / f"{sha256(chr(0).join(identity).encode()).hexdigest()[:32]}.json"
    try:
        rows = json.loads(kept.read_text(encoding="utf-8"))
        return [Sample(label, Path(path), base64.b64decode(picture)) for label, path, picture in rows]
    except (OSError, ValueError, TypeError):
        pass  # not kept yet, or damaged
    samples = _prepared(table)
    rows = [(s.label, str(s.path), base64.b64encode(s.picture).decode()) for s in samples]
    with suppress(OSError):  # no room: then they are made anew the next time
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_text(kept, json.dumps(rows))
    return samples


def _prepared(table: pd.DataFrame) -> list[Sample]:
    samples = []
    for label, rows in table[table["split"] == "test"].groupby("label"):
        for path in filter(os.path.isfile, rows["path"].head(3)):  # the page hands out open files, and no folders
            try:
                (frame,) = read_frames(path, [probe(path).frames // 2], short_side=PICTURE_SIDE)
            except VideoError:
                continue
            samples.append(Sample(str(label), Path(path), as_jpeg(frame)))
            break
        if len(samples) == MOST_SAMPLES:
            break
    return samples


def open_on_server(folder: Path | None, name: str) -> BinaryIO:
    """The video of that name inside `folder`, open. Raises `VideoError`, the same for what is absent or outside."""
    if folder is None:
        raise VideoError("videos on the server cannot be chosen here.")
    try:
        path = (folder / name).resolve()
        if path.is_relative_to(folder.resolve()) and path.is_file():
            return path.open("rb")
    except (OSError, ValueError, RuntimeError):  # names too long, with zero bytes, links in circles
        pass
    raise VideoError(f"there is no such video in the folder {folder.name!r} on the server.")
