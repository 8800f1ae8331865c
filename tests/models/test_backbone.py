"""A backbone's first weights from local files, and what freezing keeps still."""

import pickle
import re
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from varec_lib.config import TrainConfig
from varec_lib.errors import ConfigError, WeightsError
from varec_lib.models.backbone import blocks_of, freeze, load_backbone, prepare_backbone, read_state_dict, train_mode
from varec_lib.models.frame_average import FrameAverage, FrameEncoder
from varec_lib.models.i3d import BLOCKS, I3D
from varec_lib.models.r3d18 import R3D18

IMAGENET_MOBILENET = Path(__file__).resolve().parents[3] / "shared" / "weights" / "mobilenet_v2_imagenet_features.pt"


@pytest.fixture(scope="module")
def squeezenet_state():
    torch.manual_seed(1)
    return torchvision.models.squeezenet1_1().state_dict()


@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "module.backbone.network."])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_local_file_is_loaded_whatever_its_prefix(squeezenet_state, tmp_path, prefix, suffix):
    file = tmp_path / f"weights{suffix}"
    state = {prefix + name: tensor for name, tensor in squeezenet_state.items()}
    save_file(state, file) if suffix == ".safetensors" else torch.save(state, file)
    backbone = FrameEncoder("squeezenet1_1", (32, 32))
    report = load_backbone(backbone, file)
    assert (report.missing, report.wrong_shape) == ([], [])
    assert sorted(report.unused) == ["classifier.1.bias", "classifier.1.weight"]
    for name, tensor in backbone.network.state_dict().items():
        assert torch.equal(tensor, squeezenet_state[name]), name


@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_state_dict_inside_a_training_checkpoint(squeezenet_state, tmp_path, key):
    torch.save({key: squeezenet_state, "epoch": 3}, tmp_path / "train.pt")
    assert read_state_dict(tmp_path / "train.pt").keys() == squeezenet_state.keys()


def test_report_names_matched_missing_unused_and_wrong_shape(tmp_path):
    backbone = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4))
    shapes = {"0.weight": (3, 2), "1.weight": (9, 3), "2.weight": (1,)}
    torch.save({name: torch.ones(shape) for name, shape in shapes.items()}, tmp_path / "w.pt")
    before = backbone[1].weight.clone()
    report = load_backbone(backbone, tmp_path / "w.pt")
    assert report.matched == ["0.weight"]
    assert report.missing == ["0.bias", "1.weight", "1.bias"]
    assert report.unused == ["2.weight"]
    assert report.wrong_shape == ["1.weight"]
    shown = r"^1 .*\b3 missing.*0\.bias, 1\.weight, 1\.bias.*\b1 unused.*2\.weight.*\b1 wrong.*1\.weight"
    assert re.search(shown, str(report))
    assert torch.equal(backbone[0].weight, torch.ones(3, 2))
    assert torch.equal(backbone[1].weight, before)


def test_file_of_another_architecture_is_refused_and_changes_nothing(squeezenet_state, tmp_path):
    torch.save(squeezenet_state, tmp_path / "squeezenet.pt")
    backbone = R3D18(3).backbone
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    with pytest.raises(WeightsError, match=r"squeezenet\.pt.*architecture"):
        load_backbone(backbone, tmp_path / "squeezenet.pt")
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.state_dict().items())


def test_densenet_file_with_the_old_names_torchvision_still_serves(tmp_path):
    state = torchvision.models.densenet121().state_dict()
    renamed = {}
    for name, tensor in state.items():
        for layer in ("norm", "conv"):
            name = name.replace(f"{layer}1.", f"{layer}.1.").replace(f"{layer}2.", f"{layer}.2.")
        renamed[name] = tensor
    assert "features.denseblock1.denselayer1.norm.1.weight" in renamed
    torch.save(renamed, tmp_path / "densenet121.pth")
    report = load_backbone(FrameEncoder("densenet121", (32, 32)), tmp_path / "densenet121.pth")
    assert report.missing == []
    assert sorted(report.unused) == ["classifier.bias", "classifier.weight"]


class Touch:
    """Unpickling it creates a file: what a malicious weight file could do."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("write", [torch.save, lambda thing, file: file.write_bytes(pickle.dumps(thing))])
def test_code_in_a_weight_file_does_not_run(tmp_path, write):
    trace = tmp_path / "trace"
    write({"weight": Touch(trace)}, tmp_path / "evil.pt")
    with pytest.raises(WeightsError, match=r"evil\.pt.*more than"):
        read_state_dict(tmp_path / "evil.pt")
    assert not trace.exists()
    if write is torch.save:
        torch.load(tmp_path / "evil.pt", weights_only=False)
        assert trace.exists()  # the file was dangerous indeed


@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
@pytest.mark.parametrize("content", [b"", b"hello, this is text\n", b"PK\x03\x04 cut off", bytes(range(256)) * 8])
def test_file_that_holds_no_weights(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=name):
        read_state_dict(tmp_path / name)


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, torch.ones(2)])
def test_pytorch_file_without_a_state_dict(tmp_path, content):
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(WeightsError, match=r"other\.pt.*state_dict"):
        read_state_dict(tmp_path / "other.pt")


def test_missing_file(tmp_path):
    with pytest.raises(WeightsError, match=r"absent\.pt.*no such"):
        read_state_dict(tmp_path / "absent.pt")


class Wrapped(nn.Module):
    """As data parallel training wraps a model."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return self.module(clips)


@pytest.mark.parametrize("wrap", [lambda model: model, Wrapped])
def test_frozen_backbone_stays_bit_identical_while_the_head_learns(wrap):
    torch.manual_seed(0)
    model = FrameAverage(3, backbone="resnet18", frame_size=(32, 32))
    freeze(model.backbone)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert "backbone.network.bn1.running_mean" in before
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1, weight_decay=0.1)
    wrapped = wrap(model)
    for _ in range(3):
        train_mode(wrapped)
        assert model.head.training
        nn.functional.cross_entropy(wrapped(torch.rand(2, 2, 3, 32, 32)), torch.tensor([0, 1])).backward()
        optimizer.step()
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"head.1.weight", "head.1.bias"}


def test_without_freezing_the_batch_norm_statistics_move():
    model = FrameAverage(3, backbone="resnet18", frame_size=(32, 32))
    before = model.backbone.network.bn1.running_mean.clone()
    model.eval()
    train_mode(model)
    model(torch.rand(2, 2, 3, 32, 32))
    assert not torch.equal(model.backbone.network.bn1.running_mean, before)


LAYERS = [f"layer{number}" for number in (1, 2, 3, 4)]
SMALL = {"frame_size": (32, 32)}
BACKBONES = {  # a model, and the names of its backbone's blocks
    "resnet18": (lambda: FrameAverage(3, "resnet18", **SMALL), [f"network.{n}" for n in ("conv1", "bn1", *LAYERS)]),
    "mobilenet_v2": (lambda: FrameAverage(3, "mobilenet_v2", **SMALL), [f"network.features.{n}" for n in range(19)]),
    "r3d18": (lambda: R3D18(3), ["stem", *LAYERS]),
    "i3d": (lambda: I3D(3), ["conv_1a", "conv_2b", "conv_2c", *BLOCKS]),
}


@pytest.mark.parametrize("name", BACKBONES)
def test_blocks_come_one_after_the_other_and_hold_all_that_learns(name):
    make, names = BACKBONES[name]
    backbone = make().backbone
    found = {id(part): path for path, part in backbone.named_modules()}
    blocks = blocks_of(backbone)
    assert [found[id(block)] for block in blocks] == names
    held = [id(parameter) for block in blocks for parameter in block.parameters()]
    assert held == [id(parameter) for parameter in backbone.parameters()]


def test_a_single_layer_is_a_block_of_its_own():
    layer = nn.Linear(2, 2)
    assert blocks_of(nn.Sequential(nn.ReLU(), layer)) == [layer]
    assert blocks_of(nn.Sequential(nn.Sequential(layer, nn.ReLU()))) == [layer]


def of_blocks(names: list[str], path: str) -> bool:
    """Whether a tensor of a model belongs to one of these blocks of its backbone."""
    return any(path.startswith(f"backbone.{name}.") for name in names)


@pytest.mark.parametrize("count", [0, 1, 2, 4])
@pytest.mark.parametrize("name", BACKBONES)
def test_exactly_the_last_blocks_learn(name, count):
    make, names = BACKBONES[name]
    model, last = make(), names[len(names) - count :]
    freeze(model.backbone, train_blocks=count)
    learning = {path for path, parameter in model.named_parameters() if parameter.requires_grad}
    expected = {path for path, _ in model.named_parameters() if of_blocks(last, path) or path.startswith("head.")}
    assert learning == expected
    assert any(path.startswith("backbone.") for path in learning) == (count > 0)


@pytest.mark.parametrize("wrap", [lambda model: model, Wrapped])
@pytest.mark.parametrize(("name", "count"), [("resnet18", 1), ("resnet18", 5), ("mobilenet_v2", 2), ("r3d18", 2)])
def test_a_step_changes_the_trained_blocks_with_their_statistics_and_nothing_else(name, count, wrap):
    torch.manual_seed(0)
    make, names = BACKBONES[name]
    model, last = make(), names[len(names) - count :]
    freeze(model.backbone, train_blocks=count)
    before = {path: tensor.clone() for path, tensor in model.state_dict().items()}
    wrapped = wrap(model)
    train_mode(wrapped)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1, weight_decay=0.1)
    nn.functional.cross_entropy(wrapped(torch.rand(4, 2, 3, 32, 32)), torch.tensor([0, 1, 2, 0])).backward()
    optimizer.step()
    changed = {path for path, tensor in model.state_dict().items() if not torch.equal(tensor, before[path])}
    assert changed == {path for path in before if of_blocks(last, path) or path.startswith("head.")}
    assert any(path.endswith("running_mean") for path in changed)


def test_the_mode_of_each_part_is_that_of_its_training():
    model = R3D18(3)
    freeze(model.backbone, train_blocks=2)
    model.eval()
    train_mode(model)
    modes = {name: part.training for name, part in model.backbone.named_children() if name != "avgpool"}
    frozen = {"stem": False, "layer1": False, "layer2": False}
    assert modes == {**frozen, "layer3": True, "layer4": True, "fc": True}
    assert not any(part.training for name in frozen for part in model.backbone.get_submodule(name).modules())


@pytest.mark.parametrize("count", [5, 6, 100])
def test_as_many_blocks_as_there_are_or_more_are_refused_and_nothing_is_frozen(count):
    backbone = R3D18(3).backbone
    with pytest.raises(ConfigError, match=rf"train_blocks.*\b{count}\b.*\b5\b"):
        freeze(backbone, train_blocks=count)
    assert all(parameter.requires_grad for parameter in backbone.parameters())


def test_configured_blocks_are_frozen():
    model = R3D18(3)
    prepare_backbone(model, TrainConfig(train_blocks=4))
    learning = [any(p.requires_grad for p in block.parameters()) for block in blocks_of(model.backbone)]
    assert learning == [False, True, True, True, True]
    prepare_backbone(model, TrainConfig(freeze_backbone=True))
    assert not any(p.requires_grad for p in model.backbone.parameters())
    untouched = R3D18(3)
    prepare_backbone(untouched, TrainConfig())
    assert all(p.requires_grad for p in untouched.parameters())


@pytest.mark.skipif(not IMAGENET_MOBILENET.is_file(), reason="no ImageNet MobileNetV2 file beside the repository")
def test_real_imagenet_weights_fill_the_whole_backbone():
    backbone = FrameEncoder("mobilenet_v2", (64, 64))
    report = load_backbone(backbone, IMAGENET_MOBILENET)
    assert (report.missing, report.wrong_shape) == ([], [])
    tensors = [name for name in backbone.network.state_dict() if not name.endswith("num_batches_tracked")]
    assert set(tensors) <= set(report.matched)
    assert backbone.network.features[0][0].weight.std() > 0.1  # learned edge detectors, not the small random start


@pytest.mark.parametrize(
    "settings",
    [{"freeze_backbone": True}, {"weights": "x.pth"}, {"backbone_lr": 0.1}, {"train_blocks": 1}, {"pretrained": True}],
)
def test_a_model_without_a_backbone_is_named(settings):
    with pytest.raises(ConfigError, match=r"\bplain\b.*`backbone`"):
        prepare_backbone(nn.Linear(2, 2), TrainConfig(model="plain", **settings))
