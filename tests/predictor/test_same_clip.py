"""Training, evaluation, prediction and the page see the same clip of a video, whatever its file is like."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from varec_lib.data.check import check_videos
from varec_lib.data.clip_spec import IMAGENET, ClipSpec
from varec_lib.data.dataset import TrainClips, VideoFiles, load_views
from varec_lib.data.store import FrameStore
from varec_lib.predictor.predict import Predictor
from varec_lib.predictor.sandbox import GuardedVideo, Limits

SPECS = {
    "uniform": ClipSpec(8, (48, 64), *IMAGENET, short_side=56, fps=15.0),
    "dense": ClipSpec(8, (48, 64), *IMAGENET, sampling="dense", stride=2, short_side=56, fps=15.0),
}


@pytest.fixture(scope="module")
def videos(tmp_path_factory, ffmpeg, record) -> Path:
    """A folder of them, each of two seconds."""
    folder = tmp_path_factory.mktemp("films") / "videos"
    folder.mkdir()
    source, interlaced = (
        ["-f", "lavfi", "-i", "testsrc2=s=96x64:r=30:d=2"],
        ["-vf", "interlace", "-flags", "+ildct+ilme"],
    )
    h264 = ["-c:v", "libx264", "-pix_fmt", "yuv420p"]
    hdr = "format=yuv420p10le,setparams=color_primaries=bt2020:color_trc=arib-std-b67:colorspace=bt2020nc:range=tv"
    ffmpeg(*source, *h264, folder / "plain.mp4")
    ffmpeg("-display_rotation", "90", "-display_hflip", "-i", folder / "plain.mp4", "-c", "copy", folder / "turned.mp4")
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=96x64:r=50:d=2", *interlaced, "-c:v", "mpeg2video", "-b:v", "4M",
           folder / "interlaced.mpg")  # fmt: skip
    ffmpeg(*source, "-vf", "setsar=4/3", *h264, folder / "stretched.mp4")
    ffmpeg(*source, "-vf", hdr, "-c:v", "libx265", "-x265-params", "log-level=none", folder / "hdr.mp4")
    uneven = r"select=lt(n\,20)+not(mod(n\,5))"
    ffmpeg(*source, "-vf", uneven, "-fps_mode", "vfr", "-c:v", "ffv1", folder / "uneven.mkv")
    ffmpeg(*source, "-c:v", "libx264", "-bf", "2", "-pix_fmt", "yuv420p", folder / "b_frames.avi")
    record(folder / "camera.webm", 60, size=(64, 96))
    return folder


@pytest.mark.parametrize("sampling", SPECS)
def test_all_see_the_same_clip(videos, tmp_path, tiny_checkpoint, sampling):
    spec = SPECS[sampling]
    listed = pd.DataFrame({"path": sorted(map(str, videos.iterdir())), "label": "a", "group": "g", "split": "train"})
    table, bad = check_videos(listed, progress=False)
    assert len(table) == 8 and not len(bad)
    store = FrameStore(videos.parent, tmp_path, spec.short_side, spec.fps)
    stored, _ = store.update(listed, progress=False, num_workers=0)
    frames, files = store.frames_of(stored), VideoFiles(table, spec)
    loaded = Predictor.load(tiny_checkpoint, precision="fp32")
    predictor = replace(
        loaded, model=loaded.model._replace(checkpoint=replace(loaded.model.checkpoint, clip_spec=spec))
    )
    for row, path in enumerate(table["path"]):
        evaluated = load_views(files, row, spec)
        assert torch.equal(evaluated, load_views(frames, row, spec)), path
        assert torch.equal(evaluated, predictor.clips(path)), path
        trained = [TrainClips(source, [0] * 8, spec, augment=False, seed=1)[3, row].clips for source in (frames, files)]
        assert torch.equal(*trained), path
        assert torch.equal(seen_by_the_page(predictor, path), seen_along(predictor, path)), path
        if sampling == "uniform":  # a window of all of it
            assert torch.equal(seen_by_the_page(predictor, path)[:1], evaluated), path


def seen_by_the_page(predictor: Predictor, path: str) -> torch.Tensor:
    """The clips of all windows, through the process that decodes what strangers send."""
    spec, clips = predictor.model.clip_spec, []
    with open(path, "rb") as file:
        with GuardedVideo(file, short_side=spec.short_side, rate=spec.fps, limits=Limits(), preview=True) as video:
            windows = predictor.windows(
                fps=video.fps, promised_s=video.promised_s, on_window=lambda segment, clip: clips.append(clip)
            )
            for frame in video:
                windows.add(frame, video.time_s)
        windows.finish(video.ends_s)
    return torch.stack(clips)


def seen_along(predictor: Predictor, path: str) -> torch.Tensor:
    """The clips of all windows, as `predict --along` has them."""
    seen = []
    watched = replace(predictor)
    object.__setattr__(watched, "probabilities", lambda clips: seen.append(clips[0]) or predictor.probabilities(clips))
    watched.predict_along(path)
    return torch.stack(seen)
