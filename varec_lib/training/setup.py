"""From a configuration to everything a run needs."""

import os
from contextlib import ExitStack, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast_object_list, set_seed
from torch import nn

from varec_lib.config import TrainConfig
from varec_lib.data.check import announce, check_videos, trainable
from varec_lib.data.clip_spec import ClipSpec
from varec_lib.data.manifest import SPLITS, classes_of, load_manifest, video_keys
from varec_lib.data.store import FrameStore
from varec_lib.evaluation.apply import fit_novelty
from varec_lib.models.backbone import channels_last, prepare_backbone
from varec_lib.models.checkpoint import Checkpoint, TrainingData
from varec_lib.models.device import default_device, keep_freed_memory, use_tensor_cores
from varec_lib.models.precision import resolve_precision, warn_if_imitated
from varec_lib.models.pretrained import suited
from varec_lib.models.registry import build_model, load_plugin, model_entry, parameter_count
from varec_lib.training import state
from varec_lib.training.experiment import Experiment
from varec_lib.training.features import FeatureFeed
from varec_lib.training.feed import ClipFeed
from varec_lib.training.multigrid import check_sizes, plan


class Run(NamedTuple):
    """What a `Trainer` is made of; `saved` is the state of a run that goes on."""

    config: TrainConfig
    model: nn.Module
    feed: ClipFeed
    experiment: Experiment
    saved: dict[str, Any] | None


def prepare(config: TrainConfig, progress: bool, stack: ExitStack) -> Run:
    """Brings data, model and experiment folder together; makes no folder before these are known to fit.

    `stack` silences all processes but the main one. Raises `VarecError`.
    """
    config = resolved(config)
    accelerator = make_accelerator(config)
    if not accelerator.is_main_process:  # only the main process prints and writes
        stack.enter_context(redirect_stdout(stack.enter_context(open(os.devnull, "w", encoding="utf-8"))))
        progress = False
    config = state.continued_config(config)
    model, feed = build(config, accelerator, progress)
    saved = state.load_state(config, feed.checkpoint, feed.table) if config.resume else None
    experiment = _experiment(config, accelerator)
    counts, classes = feed.table["split"].value_counts(), len(feed.checkpoint.classes)
    print(f"{', '.join(f'{counts.get(split, 0)} {split}' for split in SPLITS)} videos of {classes} classes")
    size = parameter_count(model) / 1e6
    print(f"{config.model}: {size:.1f} M parameters, {feed.precision}. Experiment {experiment.folder.name}", flush=True)
    source, spec = feed.frames("train"), feed.checkpoint.clip_spec
    if short := sum(spec.repeats(source.times(row)) for row in range(len(source.frames))):
        print(f"Note: {short} training videos are shorter than a clip, which repeats their frames.")
    if config.multigrid:
        sizes = (f"{stage} from epoch {stage.first_epoch}" for stage in plan(config, saved))
        print(f"Clips (frames x height x width): {', '.join(sizes)}")
    if config.resume:
        config = config.replaced(resume=None)
        if not saved:
            print("The run ended before anything was saved: starting from its beginning.")
        if accelerator.is_main_process:
            config.save(experiment.folder / "config.json")
    return Run(config, model, feed, experiment, saved)


def with_novelty(feed: ClipFeed) -> Checkpoint:
    """The feed's checkpoint with how its videos look, once; leaves the random numbers of the training as they were.

    All processes call it, after the first epoch, because it takes seconds that the first step need not wait for.
    """
    if feed.checkpoint.novelty:
        return feed.checkpoint
    train, val, workers = feed.frames("train"), feed.frames("val"), feed.config.num_workers
    with torch.random.fork_rng(devices=[]):
        novelty = fit_novelty(train, val, feed.checkpoint.clip_spec, num_workers=workers)
    return replace(feed.checkpoint, novelty=novelty)


def _experiment(config: TrainConfig, accelerator: Accelerator) -> Experiment:
    """The experiment that is continued, or a new one."""
    folder = config.resume
    if folder is None and accelerator.is_main_process:
        folder = Experiment.create(config, state.launch(config)).folder
    return Experiment(Path(broadcast_object_list([str(folder)])[0]))


def make_accelerator(config: TrainConfig) -> Accelerator:
    """Device, precision and processes; prepared models run under autocast, and fp16 gets a loss scaler.

    Raises `ConfigError` for a precision that the device does not have.
    """
    precision = resolve_precision(config.precision, default_device())
    AcceleratorState._reset_state(reset_partial_state=True)  # notebooks train several models in one process
    on_cpu = default_device().type == "cpu"  # else accelerate overlooks the other processes of torchrun
    accelerator = Accelerator(mixed_precision="no" if precision == "fp32" else precision, cpu=on_cpu)
    if accelerator.is_main_process:
        warn_if_imitated(precision, accelerator.device)
    use_tensor_cores(accelerator.device)
    keep_freed_memory()
    return accelerator


def resolved(config: TrainConfig) -> TrainConfig:
    """The configuration with every setting decided, and folders by their whole paths: wherever it is read again."""
    if config.plugin:
        load_plugin(config.plugin)
    names = ("data_dir", "store_dir", "experiments_dir", "plugin", "resume")
    folders = {name: getattr(config, name).absolute() for name in names if getattr(config, name)}
    if config.weights and config.weights.is_file():  # else it is a name of `varec weights`
        folders["weights"] = config.weights.absolute()
    return suited(config).replaced(**folders)


def build(config: TrainConfig, accelerator: Accelerator, progress: bool) -> tuple[nn.Module, ClipFeed]:
    """The model with its first weights, and its feed; decodes missing videos into the frame store.

    The configuration is a `resolved` one.
    """
    set_seed(config.seed)  # the same first weights in all processes
    entry = model_entry(config.model)
    table, store = _checked(config, progress)
    classes = classes_of(table)
    arguments = {"backbone": config.backbone, "frame_size": config.frame_size, "num_frames": config.num_frames}
    clip_spec = ClipSpec(
        config.num_frames, config.frame_size, entry.clip_spec.mean, entry.clip_spec.std, sampling=config.sampling,
        stride=config.stride, short_side=config.stored_short_side, fps=config.fps,
    )  # fmt: skip
    model = channels_last(build_model(config.model, len(classes), **arguments))
    prepare_backbone(model, config)
    check_sizes(model, config)
    trained = table[table["split"] == "train"]
    lists = state.dataset_fingerprint(table, config.data_dir)
    data = TrainingData(os.path.basename(config.data_dir), config.ucf_split, lists, video_keys(trained).tobytes())
    checkpoint = Checkpoint(config.model, arguments, classes, clip_spec, data=data)
    if accelerator.num_processes > 1:
        set_seed(config.seed, device_specific=True)  # but other draws of dropout and mixing
    precision = resolve_precision(config.precision, accelerator.device)
    kind = ClipFeed
    if FeatureFeed.fits(config):
        if hasattr(model, "features") and hasattr(model, "classify"):
            kind = FeatureFeed
        elif store is None:  # every epoch reads all clips after all
            store = FrameStore.of(config)
            store.update(table, progress=progress)
    return model, kind(config, checkpoint, table, store, accelerator, precision, progress)


def _checked(config: TrainConfig, progress: bool) -> tuple[pd.DataFrame, FrameStore | None]:
    """The usable videos, and the frame store they were decoded into.

    For the features of a frozen backbone each clip is read once: then only a store that is there already is used.
    """
    listed = load_manifest(config.data_dir, ucf_split=config.ucf_split)
    announce(listed)
    store = None if config.store == "off" else FrameStore.of(config)
    if store and FeatureFeed.fits(config) and not store.is_complete(listed):
        store = None
    good, bad = (store.update if store else check_videos)(listed, progress=progress)
    return trainable(listed, good, bad, strict=config.strict), store
