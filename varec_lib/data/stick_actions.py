"""stick-actions: seeded videos of kinematic people doing eight actions, so the course needs no download.

`walk run punch jump` can be told apart from unordered frames. The pairs `sit_down / stand_up` and
`pick_up / put_down` differ in nothing but the order of time: one code draws both, and the frames of the
second are reversed. A model that averages frames cannot tell such twins apart.
"""

import json
import os
import shutil
from math import pi
from pathlib import Path

import cv2
import joblib
import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from varec_lib.data.manifest import SPLITS
from varec_lib.data.stick_figures import Pen, draw_person, draw_props, make_person, pick_colour
from varec_lib.data.stick_motion import ACTIONS
from varec_lib.data.video import probe
from varec_lib.errors import DataError, VideoError

CLASSES = ("walk", "run", "punch", "jump", "sit_down", "stand_up", "pick_up", "put_down")
REVERSED = {"sit_down": "stand_up", "stand_up": "sit_down", "pick_up": "put_down", "put_down": "pick_up"}
FPS = 15
VERSION = 1  # raise it when the pictures change: older folders are then generated again
SUPERSAMPLE = 3  # draw three times larger, then average down: smooth edges and sub-pixel motion


def _backdrop(rng, person, height: int, width: int, horizon: int):
    """A plain room (height, width, 3) with a few pale things at its wall, and the colour of its floor."""
    clothes = [person.shirt, person.trousers, person.skin, person.hair]
    wall = pick_colour(rng, clothes, (0.05, 0.22), (0.78, 0.96))
    floor = pick_colour(rng, [person.shoes, person.trousers, wall], (0.08, 0.28), (0.6, 0.88))
    room = np.ones((height, width, 3)) * wall * np.linspace(1.04, 0.94, height)[:, None, None]
    room[horizon:] = floor * np.linspace(0.92, 1.06, height - horizon)[:, None, None]
    white = 0.3 * wall + 178
    room[horizon - height // 60 : horizon] = white
    room = np.clip(room, 0, 255).astype(np.uint8)
    pen, x = Pen(room, 1j * horizon, height), rng.uniform(0, 0.3)
    while x < width / height:
        tone, w = 0.7 * wall + 0.3 * rng.uniform(60, 255, 3), rng.uniform(0.14, 0.26)
        kind = rng.integers(4)
        if kind == 0:  # a picture
            pen.block(x + 0.52j, w, 0.8 * w, 0.8 * wall)
            pen.block(x + 0.52j, w - 0.03, 0.8 * w - 0.03, tone)
        elif kind == 1:  # a window
            pen.block(x + 0.5j, 1.2 * w, 0.36, white)
            for side in (-0.29, 0.29):
                pen.block(x + side * w + 0.5j, 0.5 * w, 0.32, 0.5 * wall + (90, 110, 122))
        elif kind == 2:  # a cupboard
            pen.block(x + 0.14j, w, 0.28, tone)
            for y in (0.075j, 0.205j):
                pen.block(x + y, w - 0.03, 0.11, 0.93 * tone)
        else:  # a plant
            for leaf in (-0.08 + 0.25j, 0.26j, 0.08 + 0.25j):
                pen.limb(x + 0.08j, x + leaf, 0.02, 0.035, 0.6 * wall + (20, 60, 30))
            pen.limb(x + 0.03j, x + 0.09j, 0.035, 0.05, 0.9 * tone)
        x += w + rng.uniform(0.2, 0.5)
    return room, floor


def render_clip(
    label: str, performer: int, take: int, *, seed: int = 0, size: tuple[int, int] = (128, 128)
) -> np.ndarray:
    """Draws one clip, uint8 RGB (T, height, width, 3), from 24 to 40 frames at 15 fps.

    A function of its arguments alone. Twins of the same performer and take are exact reverses:
    `render_clip("stand_up", p, t)` equals `render_clip("sit_down", p, t)[::-1]`. `size` is (height, width) in
    pixels. An unknown label is a DataError.
    """
    if label not in CLASSES:
        raise DataError(f"unknown label {label!r}: the classes of stick-actions are {', '.join(CLASSES)}")
    drawn = label if label in ACTIONS else REVERSED[label]
    rng = np.random.default_rng([seed, performer, take, CLASSES.index(drawn)])
    person, (height, width) = make_person(seed, performer), (side * SUPERSAMPLE for side in size)
    scale, margin, mirrored = person.stature * min(height, width), height // 12, rng.random() < 0.5
    t = np.arange(rng.integers(24, 41)) / FPS
    poses = ACTIONS[drawn](person, rng, t)
    # The camera follows; the wall, far behind the person, slides by a third of the way and drifts a little.
    slide = 0.3 * scale * np.array([pose.scroll for pose in poses]) + margin
    slide += width * rng.uniform(-0.02, 0.02) * np.linspace(-1, 1, len(t))
    # A hand-held camera: three slow circles, either way round, so that a reversed clip shakes like any other.
    rate, phase = rng.uniform(-1.5, 1.5, 3), rng.uniform(0, 2 * pi, 3)
    radius = height * rng.uniform(0.0005, 0.003, 3)
    shake = (radius * np.exp(1j * (2 * pi * rate * t[:, None] + phase))).sum(axis=1)
    room, floor = _backdrop(
        rng, person, height + 2 * margin, width + int(slide.max()) + margin, margin + int(0.82 * height)
    )
    wood = pick_colour(rng, [person.trousers, person.shirt, floor], (0.3, 0.7), (0.3, 0.9))
    frames = np.empty((len(t), *size, 3), np.uint8)
    for frame, pose, left, offset in zip(frames, poses, slide, shake, strict=True):
        top, left = margin + round(offset.imag), round(left + offset.real)
        canvas = room[top : top + height, left : left + width].copy()
        pen = Pen(canvas, complex(width / 2, 0.945 * height) - offset, scale)
        draw_props(pen, pose, floor, wood)
        draw_person(pen, pose, person)
        cv2.resize(canvas, size[::-1], dst=frame, interpolation=cv2.INTER_AREA)
    frames = frames[:, :, ::-1] if mirrored else frames
    return np.ascontiguousarray(frames if drawn == label else frames[::-1])


def _write_clip(path: Path, label: str, performer: int, take: int, seed: int, size: tuple[int, int]):
    """Renders one clip into a WebM file (VP8: it plays in every browser) and reads it back.

    OpenCV prints a line about the tag of each VP80 file straight to file descriptor 2, past its log level, so
    that is turned away for the moment of opening. On a full disk it cuts a video short without a word: hence
    the reading back.
    """
    frames = render_clip(label, performer, take, seed=seed, size=size)
    with open(os.devnull, "w") as nowhere:
        stderr = os.dup(2)
        os.dup2(nowhere.fileno(), 2)
        try:
            writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"VP80"), FPS, size[::-1])
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
    for frame in frames:
        writer.write(frame[..., ::-1])
    writer.release()
    try:
        count = probe(path).frames
    except VideoError:
        count = 0
    if count != len(frames):
        raise DataError(
            f"{path}: only {count} of {len(frames)} frames could be written: "
            "the disk is full, or this OpenCV has no VP8 encoder"
        )


def _plan(performers: tuple[int, int, int], takes: int) -> pd.DataFrame:
    """One row per video: video_name, label, group, split, performer, take; splits go by performer."""
    rows = []
    for performer, split in enumerate(np.repeat(SPLITS, performers)):
        for label in CLASSES:
            # Twins get different takes: with the same, a stand_up would be a sit_down file played backwards.
            first = 0 if label in ACTIONS else takes
            for take in range(first, first + takes):
                name = f"{label}/{label}_p{performer:02d}_t{take:02d}.webm"
                rows.append((name, label, f"p{performer:02d}", split, performer, take))
    return pd.DataFrame(rows, columns=["video_name", "label", "group", "split", "performer", "take"])


def _found(root: Path) -> dict | None:
    """The settings of the stick-actions at `root`, None where nothing is; DataError for anything else."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return None
    try:
        settings = json.loads((root / "dataset.json").read_text(encoding="utf-8"))
        if settings["name"] == "stick-actions":
            return settings
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise DataError(
        f"{root}: holds something else than stick-actions (no dataset.json of it), nothing was "
        "changed: name another folder, or move its content away"
    )


def generate(
    root: Path | str,
    *,
    seed: int = 0,
    performers: tuple[int, int, int] = (20, 5, 10),
    takes: int = 2,
    size: tuple[int, int] = (128, 128),
    jobs: int | None = None,
    progress: bool = True,
) -> Path:
    """Writes the dataset to `root` and returns it: `videos/<label>/*.webm`, a CSV per split, `dataset.json`.

    `performers` counts the people of train, val and test; each does every action `takes` times. `size` is
    (height, width) in pixels, even. `jobs` processes draw side by side (default: one per core). A folder with
    these settings and all its files is left as it is; stick-actions of other settings are replaced once the
    new ones are complete. Raises DataError where `root` holds something else or cannot be written.
    """
    root, size = Path(root), tuple(size)
    if len(performers) != 3 or min(performers) < 0 or takes < 1 or min(size) < 32 or any(s % 2 for s in size):
        raise DataError(
            f"stick-actions: performers={performers}, takes={takes}, size={size} cannot be made: "
            "it takes three counts of people, a take or more, and even sides from 32 pixels"
        )
    settings = {
        "name": "stick-actions",
        "version": VERSION,
        "seed": seed,
        "performers": list(performers),
        "takes": takes,
        "size": list(size),
        "fps": FPS,
        "classes": list(CLASSES),
    }
    plan = _plan(performers, takes)
    new, old = (root.absolute().with_name(f"{root.name}.{what}-{os.getpid()}") for what in ("partial", "old"))
    try:
        files = [f"{split}.csv" for split in SPLITS] + [f"videos/{name}" for name in plan.video_name]
        if _found(root) == settings and all((root / file).is_file() for file in files):
            return root
        _draw(new, plan, settings, jobs or joblib.cpu_count(), progress)
        if _found(root) is not None or root.exists():  # ours, or empty: asked again, as drawing took a while
            root.rename(old)
        new.rename(root)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise DataError(f"{root}: cannot be written ({error.strerror}): name another folder, or make room") from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return root


def _draw(folder: Path, plan: pd.DataFrame, settings: dict, jobs: int, progress: bool) -> None:
    """Draws all videos of the plan into a folder and writes its tables and `dataset.json`."""
    for label in CLASSES:
        (folder / "videos" / label).mkdir(parents=True, exist_ok=True)
    how = (settings["seed"], tuple(settings["size"]))
    work = [
        joblib.delayed(_write_clip)(folder / "videos" / row.video_name, row.label, row.performer, row.take, *how)
        for row in plan.itertuples()
    ]
    done = joblib.Parallel(jobs, return_as="generator_unordered")(work)
    for _ in tqdm(done, total=len(work), desc="stick-actions", unit="video", disable=not progress):
        pass
    for split in SPLITS:
        rows = plan.loc[plan.split == split, ["video_name", "label", "group"]]
        rows.to_csv(folder / f"{split}.csv", index=False, lineterminator="\n")
    (folder / "dataset.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
