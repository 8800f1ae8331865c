"""Every command obeys VAREC_PRECISION, and an explicit --precision wins over it."""

import pytest
import torch

from varec_lib import cli
from varec_lib.models import checkpoint
from varec_lib.predictor.predict import Predictor


@pytest.fixture
def used(monkeypatch):
    """The number formats that networks ran in."""
    seen = []
    original = checkpoint.autocast
    monkeypatch.setattr(
        checkpoint, "autocast", lambda precision, device: seen.append(precision) or original(precision, device)
    )
    return seen


@pytest.fixture(params=["evaluate", "predict"])
def words(request, tiny_checkpoint, numbered_dataset):
    """A command that uses a trained model."""
    if request.param == "evaluate":
        return ["evaluate", str(tiny_checkpoint), "--data", str(numbered_dataset), "--num_workers", "0"]
    return ["predict", str(numbered_dataset / "videos" / "alpha" / "alpha_0.mkv"), "--checkpoint", str(tiny_checkpoint)]


@pytest.mark.parametrize("wanted", ["fp32", "bf16"])
def test_the_variable_decides(words, used, monkeypatch, wanted):
    monkeypatch.setenv("VAREC_PRECISION", wanted)
    assert cli.main(words) == 0
    assert set(used) == {wanted}


def test_a_stated_precision_wins(words, used, monkeypatch):
    monkeypatch.setenv("VAREC_PRECISION", "nonsense")
    assert cli.main([*words, "--precision", "fp32"]) == 0
    assert set(used) == {"fp32"}


@pytest.mark.parametrize("value", ["bf8", "fp16"])
def test_an_unusable_variable_is_an_error_of_use(words, monkeypatch, capsys, value):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("VAREC_PRECISION", value)
    capsys.readouterr()
    assert cli.main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"VAREC_PRECISION={value}" in line


def test_imitation_is_announced_before_the_answer(words, monkeypatch, capsys):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    capsys.readouterr()
    assert cli.main([*words, "--precision", "bf16"]) == 0
    first, *others = capsys.readouterr().out.splitlines()
    assert "imitates" in first
    assert others and not any("imitates" in line for line in others)


def test_the_page_obeys_too(tiny_checkpoint, monkeypatch):
    monkeypatch.setenv("VAREC_PRECISION", "fp32")
    assert Predictor.load(tiny_checkpoint).model.precision == "fp32"
