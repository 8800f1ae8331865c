"""Transforms: one geometry and one colour change for all frames of a clip, and the network's input."""

import json

import pytest
import torch

from varec_lib.data.transforms import IMAGENET, KINETICS, Preprocess, clip_augmentation


@pytest.fixture(scope="module")
def still() -> torch.Tensor:
    """Eight times the same random frame, uint8 (8, 3, 60, 80)."""
    frame = torch.randint(0, 256, (3, 60, 80), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return frame.expand(8, -1, -1, -1).contiguous()


@pytest.fixture(scope="module")
def left_is_dark() -> torch.Tensor:
    """A clip whose left half is black and whose right half is white, uint8 (4, 3, 64, 64)."""
    clip = torch.zeros(4, 3, 64, 64, dtype=torch.uint8)
    clip[..., 32:] = 255
    return clip


def augmented(clip: torch.Tensor, size: tuple[int, int], seed: int, *, flip: bool) -> torch.Tensor:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return clip_augmentation(size, flip=flip)(clip)


def is_mirrored(clip: torch.Tensor) -> bool:
    return bool(clip[..., :4].float().mean() > clip[..., -4:].float().mean())


def preprocess(size: tuple[int, int], colours=IMAGENET) -> Preprocess:
    return Preprocess(4, size, *colours)


def test_a_clip_of_identical_frames_stays_one_after_augmentation(still):
    for seed in range(20):
        clip = augmented(still, (32, 48), seed, flip=True)
        assert clip.shape == (8, 3, 32, 48) and clip.dtype == torch.uint8
        assert torch.equal(clip, clip[:1].expand_as(clip))


def test_augmentation_differs_from_call_to_call(still):
    transform = clip_augmentation((32, 32))
    clips = [transform(still) for _ in range(5)]
    assert all(not torch.equal(a, b) for i, a in enumerate(clips) for b in clips[:i])


def test_augmentation_changes_colours_as_well_as_geometry():
    flat = torch.full((4, 3, 64, 64), 100, dtype=torch.uint8)
    assert len({int(augmented(flat, (32, 32), seed, flip=True)[0, 0, 0, 0]) for seed in range(20)}) > 5


def test_without_flip_no_clip_is_ever_mirrored(left_is_dark):
    assert not any(is_mirrored(augmented(left_is_dark, (32, 32), seed, flip=False)) for seed in range(100))


def test_with_flip_about_half_of_the_clips_are_mirrored(left_is_dark):
    mirrored = sum(is_mirrored(augmented(left_is_dark, (32, 32), seed, flip=True)) for seed in range(100))
    assert 25 < mirrored < 75


@pytest.mark.parametrize("video", [(240, 320), (320, 240), (47, 63), (2, 2), (16, 16), (1, 90), (112, 112)])
@pytest.mark.parametrize("size", [(112, 112), (32, 48), (96, 33)])
def test_crop_gives_the_frame_size_whatever_the_video(video, size):
    clip = torch.full((2, 3, *video), 77, dtype=torch.uint8)
    cropped = preprocess(size).crop(clip)
    assert cropped.shape == (2, 3, *size) and cropped.dtype == torch.uint8
    assert (cropped == 77).all()  # no padding comes in


@pytest.mark.parametrize("video", [(120, 200), (200, 120)])
def test_crop_keeps_the_centre_and_the_proportions(video):
    height, width = video
    top, left = (height - 120) // 2, (width - 120) // 2
    clip = torch.zeros(1, 3, height, width, dtype=torch.uint8)
    clip[..., top : top + 120, left : left + 120] = 100  # the centre square is all that may remain
    clip[..., height // 2 - 30 : height // 2 + 30, width // 2 - 30 : width // 2 + 30] = 200  # half of its side
    cropped = preprocess((60, 60)).crop(clip)[0, 0]
    assert cropped.min() > 80  # antialiasing mixes a little of the black into the outermost pixels
    assert (cropped > 150).sum(dim=0).max() == (cropped > 150).sum(dim=1).max() == 30


def test_crop_of_a_video_of_the_right_size_changes_nothing(still):
    assert torch.equal(preprocess((60, 80)).crop(still), still)


@pytest.mark.parametrize("colours", [IMAGENET, KINETICS])
def test_normalise_subtracts_the_mean_and_divides_by_the_deviation(colours):
    batch = torch.tensor([0, 128, 255], dtype=torch.uint8).view(1, 1, 3, 1, 1).expand(2, 4, 3, 5, 6)
    result = preprocess((5, 6), colours).normalise(batch)
    assert result.shape == (2, 4, 3, 5, 6) and result.dtype == torch.float32
    for channel, value in enumerate((0, 128, 255)):
        expected = (value / 255 - colours[0][channel]) / colours[1][channel]
        assert torch.allclose(result[:, :, channel], torch.tensor(expected), atol=1e-6)


def test_preprocess_survives_json():
    original = Preprocess(8, (32, 48), *KINETICS, sampling="dense", stride=3)
    assert Preprocess(**json.loads(json.dumps(original.to_dict()))) == original


def test_indices_follow_the_sampling_that_was_chosen():
    assert Preprocess(4, (32, 32), *IMAGENET).indices(40) == [5, 15, 25, 35]
    assert Preprocess(4, (32, 32), *IMAGENET, sampling="dense", stride=3).indices(40) == [15, 18, 21, 24]
