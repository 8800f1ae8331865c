"""Transforms: one geometry and one colour change for all frames of a clip, and the network's input."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from varec_lib.data.clip_spec import IMAGENET, KINETICS, ClipSpec, apply_each, random_colours, random_crop


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


def cropped(clip: torch.Tensor, size: tuple[int, int], seed: int) -> torch.Tensor:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return random_crop(size)(clip)


def coloured(clip: torch.Tensor, seed: int, *, flip: bool = True) -> torch.Tensor:
    return apply_each(random_colours(flip=flip), clip[None], [seed])[0]


def is_mirrored(clip: torch.Tensor) -> bool:
    return bool(clip[..., :4].float().mean() > clip[..., -4:].float().mean())


def clip_spec(size: tuple[int, int], colours=IMAGENET) -> ClipSpec:
    return ClipSpec(4, size, *colours)


def test_a_clip_of_identical_frames_stays_one_after_augmentation(still):
    for seed in range(20):
        clip = coloured(cropped(still, (32, 48), seed), seed)
        assert clip.shape == (8, 3, 32, 48) and clip.dtype == torch.uint8
        assert torch.equal(clip, clip[:1].expand_as(clip))


@pytest.mark.parametrize("transform", [random_crop((32, 32)), random_colours()], ids=["crop", "colours"])
def test_augmentation_differs_from_call_to_call(still, transform):
    clips = [transform(still) for _ in range(5)]
    assert all(not torch.equal(a, b) for i, a in enumerate(clips) for b in clips[:i])


def test_the_random_crop_shows_other_parts_and_never_the_outside():
    ramp = torch.arange(40, 140, dtype=torch.uint8).expand(2, 3, 100, 100)  # dark on the left
    lefts = []
    for seed in range(30):
        clip = cropped(ramp, (32, 32), seed)
        assert 40 <= clip.min() and clip.max() < 140 and (clip[..., 0] < clip[..., -1]).all()
        assert 55 < int(clip[..., -1].max()) - int(clip[..., 0].min()) < 100  # at least 60 % of the picture
        lefts.append(int(clip.min()))
    assert len(set(lefts)) > 10


def test_colours_vary_and_keep_the_geometry():
    flat = torch.full((4, 3, 20, 20), 100, dtype=torch.uint8)
    assert len({int(coloured(flat, seed)[0, 0, 0, 0]) for seed in range(20)}) > 5
    dot = torch.full((4, 3, 21, 21), 60, dtype=torch.uint8)
    dot[..., 5, 10] = 200  # on the mirror's axis
    for seed in range(20):
        brightest = coloured(dot, seed)[:, 0].flatten(1).argmax(dim=1)
        assert brightest.tolist() == [5 * 21 + 10] * 4


def test_without_flip_no_clip_is_ever_mirrored(left_is_dark):
    assert not any(is_mirrored(coloured(left_is_dark, seed, flip=False)) for seed in range(100))
    assert not any(is_mirrored(cropped(left_is_dark, (32, 32), seed)) for seed in range(100))


def test_with_flip_about_half_of_the_clips_are_mirrored(left_is_dark):
    assert 25 < sum(is_mirrored(coloured(left_is_dark, seed)) for seed in range(100)) < 75


@pytest.fixture(scope="module")
def clips() -> torch.Tensor:
    """Five random clips, uint8 (5, 3, 3, 20, 24)."""
    return torch.randint(0, 256, (5, 3, 3, 20, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_apply_each_depends_on_the_seed_of_the_clip_alone(clips):
    seeds = [7, 2**32 - 1, 0, 7, 12]  # what `TrainClips` gives: 32 bits
    changed = apply_each(random_colours(), clips, seeds)
    assert changed.shape == clips.shape and changed.dtype == torch.uint8
    assert torch.equal(apply_each(random_colours(), clips, seeds), changed)
    for number, seed in enumerate(seeds):  # whatever its neighbours are
        assert torch.equal(coloured(clips[number], seed), changed[number])
    assert not torch.equal(coloured(clips[0], 8), changed[0])
    same = apply_each(random_colours(), clips[:1].expand(2, -1, -1, -1, -1), [7, 7])
    assert torch.equal(same[0], same[1])


def test_apply_each_leaves_the_clips_and_the_random_state_alone(clips):
    before, state = clips.clone(), torch.get_rng_state()
    apply_each(random_colours(), clips, [1, 2, 3, 4, 5])
    assert torch.equal(torch.get_rng_state(), state) and torch.equal(clips, before)
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    apply_each(random_colours(), clips, [1, 2, 3, 4, 5])
    assert torch.equal(torch.rand(4), expected)


def test_apply_each_restores_the_random_state_after_an_error(clips):
    def fails(clip: torch.Tensor) -> torch.Tensor:
        torch.rand(1)
        raise RuntimeError("no memory")

    state = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="no memory"):
        apply_each(fails, clips, [1, 2, 3, 4, 5])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
def test_apply_each_draws_the_same_on_a_gpu_and_leaves_its_random_state_alone(clips):
    before = torch.cuda.get_rng_state()
    changed = apply_each(random_colours(), clips.cuda(), [1, 2, 3, 4, 5])
    assert changed.is_cuda and torch.equal(torch.cuda.get_rng_state(), before)
    expected = apply_each(random_colours(), clips, [1, 2, 3, 4, 5])
    assert (changed.cpu().float() - expected.float()).abs().max() <= 2  # rounding


def test_apply_each_wants_a_seed_per_clip(clips):
    with pytest.raises(ValueError, match="shorter"):
        apply_each(random_colours(), clips, [1, 2, 3])


@pytest.mark.parametrize("video", [(240, 320), (320, 240), (47, 63), (2, 2), (16, 16), (1, 90), (112, 112)])
@pytest.mark.parametrize("size", [(112, 112), (32, 48), (96, 33)])
def test_crop_gives_the_frame_size_whatever_the_video(video, size):
    clip = torch.full((2, 3, *video), 77, dtype=torch.uint8)
    cropped = clip_spec(size).crop(clip)
    assert cropped.shape == (2, 3, *size) and cropped.dtype == torch.uint8
    assert (cropped == 77).all()  # no padding comes in


@pytest.mark.parametrize("video", [(120, 200), (200, 120)])
def test_crop_keeps_the_centre_and_the_proportions(video):
    height, width = video
    top, left = (height - 120) // 2, (width - 120) // 2
    clip = torch.zeros(1, 3, height, width, dtype=torch.uint8)
    clip[..., top : top + 120, left : left + 120] = 100  # the centre square is all that may remain
    clip[..., height // 2 - 30 : height // 2 + 30, width // 2 - 30 : width // 2 + 30] = 200  # half of its side
    cropped = clip_spec((60, 60)).crop(clip)[0, 0]
    assert cropped.min() > 80  # antialiasing mixes a little of the black into the outermost pixels
    assert (cropped > 150).sum(dim=0).max() == (cropped > 150).sum(dim=1).max() == 30


def test_crop_of_a_video_of_the_right_size_changes_nothing(still):
    assert torch.equal(clip_spec((60, 80)).crop(still), still)


def ramp(height: int, width: int) -> torch.Tensor:
    """A clip whose pixels say in which column and row they are, uint8 `(2, 3, height, width)`."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([rows, columns, rows]).to(torch.uint8).expand(2, -1, -1, -1).contiguous()


@pytest.mark.parametrize(("size", "axis"), [((64, 100), 1), ((100, 64), 0)])
def test_three_crops_lie_along_the_longer_side(size, axis):
    crops = ClipSpec(2, (64, 64), *IMAGENET).crops(ramp(*size), 3)
    assert crops.shape == (3, 2, 3, 64, 64)
    assert crops[:, 0, axis].amin(dim=(1, 2)).tolist() == [0, 18, 36]
    assert crops[:, 0, 1 - axis].amin(dim=(1, 2)).tolist() == [0, 0, 0]


def test_one_crop_is_the_centre_and_those_of_a_square_are_the_same():
    spec, wide, square = ClipSpec(2, (64, 64), *IMAGENET), ramp(64, 100), ramp(64, 64)
    assert torch.equal(spec.crops(wide, 1)[0], spec.crop(wide))
    assert all(torch.equal(crop, square) for crop in spec.crops(square, 3))


def test_a_crop_can_be_taken_from_larger_frames():
    """As the published protocol of R3D-18 does: 112x112 of 128x171."""
    spec = ClipSpec(2, (112, 112), *KINETICS, crop_side=128)
    assert torch.equal(spec.crop(ramp(128, 171)), ramp(128, 171)[..., 8:120, 30:142])
    assert spec.crop(ramp(32, 43)).shape[-2:] == (112, 112)
    assert not torch.equal(spec.crop(ramp(128, 171)), replace(spec, crop_side=0).crop(ramp(128, 171)))


@pytest.mark.parametrize("colours", [IMAGENET, KINETICS])
def test_normalise_subtracts_the_mean_and_divides_by_the_deviation(colours):
    batch = torch.tensor([0, 128, 255], dtype=torch.uint8).view(1, 1, 3, 1, 1).expand(2, 4, 3, 5, 6)
    result = clip_spec((5, 6), colours).normalise(batch)
    assert result.shape == (2, 4, 3, 5, 6) and result.dtype == torch.float32
    for channel, value in enumerate((0, 128, 255)):
        expected = (value / 255 - colours[0][channel]) / colours[1][channel]
        assert torch.allclose(result[:, :, channel], torch.tensor(expected), atol=1e-6)


def test_preprocess_survives_json():
    original = ClipSpec(8, (32, 48), *KINETICS, sampling="dense", stride=3, short_side=40, fps=12.5)
    assert ClipSpec(**json.loads(json.dumps(original.to_dict()))) == original


def test_a_video_that_is_shorter_than_a_clip_is_told():
    uniform = ClipSpec(8, (32, 32), *IMAGENET, fps=15)
    dense = replace(uniform, sampling="dense", stride=2)  # of 15 frames
    for frames in range(1, 30):
        times = np.arange(frames + 1) / 15
        assert uniform.repeats(times) == (frames < 8) == (len(set(uniform.indices(times))) < 8)
        assert dense.repeats(times) == (frames < 15)


def test_indices_follow_the_sampling_that_was_chosen():
    assert ClipSpec(4, (32, 32), *IMAGENET).indices(np.arange(41) / 15) == [5, 15, 25, 35]
    dense = ClipSpec(4, (32, 32), *IMAGENET, sampling="dense", stride=3)
    assert dense.indices(np.arange(41) / 15) == [15, 18, 21, 24]  # in frames of the video
    assert replace(dense, fps=15).indices(np.arange(41) / 15) == [15, 18, 21, 24]
    assert replace(dense, fps=15).indices(np.arange(81) / 30) == [30, 36, 42, 48]  # in time
