"""How many videos do I need? Linear models on frozen features, trained on a few videos of each class.

python benchmarks/how_many.py FOLDER [--draws 5]

FOLDER is a dataset with a test list. Each row of the table is so many training videos of each class, whole groups at a
time where that is possible; each column a kind of features. Top-1 on the whole test list: mean, and lowest to highest
of the draws. `varec weights` says where the weights of I3D and MobileNetV2 come from.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from varec_lib.config import TrainConfig
from varec_lib.data.check import load_dataset
from varec_lib.data.clip_spec import IMAGENET, ClipSpec
from varec_lib.data.dataset import VideoFiles, load_views
from varec_lib.models.backbone import load_backbone
from varec_lib.models.frame_average import FrameEncoder
from varec_lib.models.pretrained import load_pretrained
from varec_lib.models.weights import fetch, named_weights


def clips_of(table: pd.DataFrame, spec: ClipSpec):
    """One clip of each video, normalised `(1, T, C, H, W)`, one after the other."""
    source = VideoFiles(table, spec)
    for row in range(len(table)):
        yield spec.normalise(load_views(source, row, spec))


@torch.inference_mode()
def features_of(table: pd.DataFrame) -> dict[str, np.ndarray]:
    """Features of every video `(N, F)`: eight tiny pictures, ImageNet frames in order and averaged, Kinetics video."""
    tiny = [clip.flatten().numpy() for clip in clips_of(table, ClipSpec(8, (8, 8), *IMAGENET, short_side=32))]
    encoder = FrameEncoder("mobilenet_v2", (224, 224)).eval()
    load_backbone(encoder, fetch(named_weights("mobilenet_v2_features")))
    frames = [encoder.encode_clips(clip)[0].numpy() for clip in clips_of(table, ClipSpec(8, (224, 224), *IMAGENET))]
    i3d, checkpoint, _ = load_pretrained("i3d")
    video = [i3d.features(clip).flatten().numpy() for clip in clips_of(table, checkpoint.clip_spec)]
    return {
        "8x8 pixels, 8 frames": np.stack(tiny),
        "ImageNet frames, mean": np.stack([frame.mean(axis=0) for frame in frames]),
        "ImageNet frames, in order": np.stack([frame.flatten() for frame in frames]),
        "Kinetics video (I3D)": np.stack(video),
    }


def drawn(train: pd.DataFrame, count: int, rng: np.random.Generator) -> np.ndarray:
    """Rows of `count` training videos of each class, from as few groups as hold so many."""
    rows = []
    for _, videos in train.groupby("label"):
        order = {group: place for place, group in enumerate(rng.permutation(videos["group"].unique()))}
        rows.extend(videos.sort_values("group", key=lambda names: names.map(order), kind="stable").index[:count])
    return np.array(rows)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 2, 4, 8, 16, 30])
    args = parser.parse_args()
    table = load_dataset(TrainConfig(data_dir=args.folder), progress=False).reset_index(drop=True)
    features, labels = features_of(table), table["label"].to_numpy()
    train, test = table[table["split"] != "test"], table.index[table["split"] == "test"]
    rows = {}
    for count in args.counts:
        if count > train["label"].value_counts().min():
            break
        reached: dict[str, list[float]] = {name: [] for name in features}
        for draw in range(args.draws):
            chosen = drawn(train, count, np.random.default_rng(draw))
            for name, x in features.items():
                model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000, C=0.01))
                reached[name].append(model.fit(x[chosen], labels[chosen]).score(x[test], labels[test]))
        rows[count] = {n: f"{np.mean(v):.2f} ({min(v):.2f} to {max(v):.2f})" for n, v in reached.items()}
    print(pd.DataFrame(rows).T.rename_axis("videos of each class").to_string())


if __name__ == "__main__":
    main()
