"""stick-actions: seeded videos of kinematic people doing eight actions, so the course needs no download.

`walk run punch jump` can be told apart from unordered frames. The pairs `sit_down / stand_up` and
`pick_up / put_down` differ in nothing but the order of time: the second of each is drawn by the code of
the first and its frames are reversed, so a model that averages frames cannot tell the two apart.

Lengths are fractions of the person's stature. A point is a complex number: x forward (people face right
until the whole picture is mirrored), y up, the ground at y = 0. Angles are radians from hanging straight
down, positive forward.
"""
import json
import os
import shutil
from cmath import exp
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from math import acos, cos, pi, radians, sin
from pathlib import Path

import cv2
import joblib
import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from varec_lib.errors import DataError

CLASSES = ("walk", "run", "punch", "jump", "sit_down", "stand_up", "pick_up", "put_down")
REVERSED = {"sit_down": "stand_up", "stand_up": "sit_down", "pick_up": "put_down", "put_down": "pick_up"}
FPS = 15
VERSION = 1  # raise it when the pictures change: older folders are then generated again
SPLITS = ("train", "val", "test")
SUPERSAMPLE = 3  # draw three times larger, then average down: smooth edges, sub-pixel motion
ANKLE, THIGH, SHANK, TORSO, UPPER_ARM, FOREARM, FOOT = 0.038, 0.24, 0.24, 0.285, 0.165, 0.155, 0.105
SKIN = ((255, 219, 185), (241, 194, 150), (214, 158, 110), (172, 112, 70), (128, 80, 52), (92, 58, 40))
HAIR = ((30, 26, 28), (66, 42, 30), (110, 66, 36), (150, 64, 32), (222, 178, 92), (150, 150, 156))


# ---------------------------------------------------------------------------------------------- people
@dataclass(frozen=True)
class Person:
    """Proportions, habits and colours (RGB, 0-255) of one performer, the same in all of their takes."""
    stature: float  # fraction of the frame height
    girth: float    # thickness of limbs and torso, 1 = average
    leg: float      # length of the legs, 1 = average
    energy: float   # amplitude of the movements, 1 = average
    sleeves: bool
    shorts: bool
    hairstyle: int  # 0 short, 1 long, 2 bun, 3 cap
    skin: np.ndarray
    hair: np.ndarray
    shirt: np.ndarray
    trousers: np.ndarray
    shoes: np.ndarray


def _colour(rng, avoid, saturation, value, tries=8) -> np.ndarray:
    """The one of `tries` random colours (RGB, 0-255) that is farthest, in CIELAB, from all of `avoid`."""
    hsv = np.stack([rng.uniform(0, 360, tries), rng.uniform(*saturation, tries), rng.uniform(*value, tries)], 1)
    rgb = cv2.cvtColor(hsv[None].astype(np.float32), cv2.COLOR_HSV2RGB)
    lab = cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)[0]
    others = cv2.cvtColor(np.float32(avoid)[None] / 255, cv2.COLOR_RGB2LAB)[0]
    distance = np.linalg.norm(lab[:, None] - others[None], axis=2).min(axis=1)
    return rgb[0, distance.argmax()] * 255


def _person(seed: int, performer: int) -> Person:
    rng = np.random.default_rng([seed, performer, 1000])
    skin, hair = np.float32(SKIN[rng.integers(6)]), np.float32(HAIR[rng.integers(6)])
    shirt = _colour(rng, [skin, hair], (0.55, 0.95), (0.5, 0.95))
    trousers = _colour(rng, [skin, shirt], (0.3, 0.8), (0.2, 0.6))
    shoes = _colour(rng, [skin, trousers], (0.0, 0.8), (0.15, 0.95))
    return Person(rng.uniform(0.78, 0.84), rng.uniform(0.88, 1.2), rng.uniform(0.95, 1.04), rng.uniform(0.88, 1.12),
                  bool(rng.random() < 0.5), bool(rng.random() < 0.3), int(rng.integers(4)),
                  skin, hair, shirt, trousers, shoes)


# ---------------------------------------------------------------------------------------------- poses
@dataclass
class Pose:
    """Joints of one frame. `legs` holds (knee, ankle, foot pitch), `arms` (elbow, hand); far side first."""
    hip: complex
    shoulder: complex
    legs: list
    arms: list
    head_tilt: float
    box: complex | None = None    # centre of the box
    chair: complex | None = None  # middle of the seat
    scroll: float = 0.0           # how far the camera has followed the person


def _chain(origin: complex, angle1: float, angle2: float, length1: float, length2: float):
    """Forward kinematics of a two-link limb: its middle joint and its end."""
    middle = origin - 1j * length1 * exp(1j * angle1)
    return middle, middle - 1j * length2 * exp(1j * angle2)


def _reach(origin: complex, target: complex, length1: float, length2: float, bend: int):
    """Inverse kinematics: middle joint and end of a limb that reaches for `target`; `bend` +1 knee, -1 elbow."""
    away = target - origin
    distance = min(max(abs(away), abs(length1 - length2) + 1e-3), 0.998 * (length1 + length2))
    direction = away / max(abs(away), 1e-6)
    corner = acos((length1 ** 2 + distance ** 2 - length2 ** 2) / (2 * length1 * distance))
    return origin + length1 * direction * exp(1j * bend * corner), origin + distance * direction


def _standing(person, hip, lean, feet, pitch=0.0, tilt=None) -> Pose:
    """A pose with the ankles at `feet` (far, near), and the arms still to be set."""
    legs = [(*_reach(hip, foot, THIGH * person.leg, SHANK * person.leg, +1), pitch) for foot in feet]
    return Pose(hip, hip + 1j * TORSO * exp(-1j * lean), legs, [], 0.7 * lean if tilt is None else tilt)


def _hang(pose, swing=0.0, flex=0.25):
    """Both arms at the angle `swing`, elbows bent by `flex`; the far one a little in front."""
    pose.arms = [_chain(pose.shoulder, swing + d, swing + d + flex, UPPER_ARM, FOREARM) for d in (0.12, -0.04)]
    return pose


def _ease(x):
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def _gait(person, rng, t, run) -> list[Pose]:
    """Walking, or with `run` running: sinusoidal hips, knees that fold in the swing, arms against the legs."""
    def draw(walking, running):
        return rng.uniform(*(running if run else walking))
    cadence, phase = draw((0.85, 1.1), (1.3, 1.6)), rng.uniform(0, 2 * pi)
    swing = radians(draw((24, 30), (38, 46))) * person.energy
    fold, rest = radians(draw((48, 60), (88, 108))), radians(draw((4, 8), (16, 24)))
    arm, elbow = radians(draw((22, 34), (42, 54))) * person.energy, radians(draw((14, 30), (80, 100)))
    lean, forward, flight = radians(draw((1, 5), (10, 18))), radians(draw((1, 3), (10, 14))), draw((0, 0), (0.03, 0.05))
    poses = []
    for phi in 2 * pi * cadence * t + phase:
        legs, low = [], 0.0
        for p in (phi + pi, phi):
            thigh = forward + swing * sin(p)
            shank = thigh - rest - fold * max(0.0, cos(p + 0.45)) ** 1.5
            knee, ankle = _chain(0, thigh, shank, THIGH * person.leg, SHANK * person.leg)
            legs.append([knee, ankle, 0.75 * shank])
            low = min(low, ankle.imag - ANKLE, (ankle + FOOT * exp(0.75j * shank)).imag - ANKLE / 2)
        hip = 1j * (flight * sin(phi) ** 2 - low)
        shoulder = hip + 1j * TORSO * exp(-1j * lean)
        arms = [_chain(shoulder, a, a + elbow, UPPER_ARM, FOREARM) for a in (arm * sin(phi), -arm * sin(phi))]
        scroll = (phi - phase) / (2 * pi) * 4 * (THIGH + SHANK) * sin(swing) * (1.4 if run else 1.0)
        poses.append(Pose(hip, shoulder, [(hip + k, hip + a, f) for k, a, f in legs], arms, 0.4 * lean, scroll=scroll))
    return poses


def _walk(person, rng, t):
    return _gait(person, rng, t, run=False)


def _run(person, rng, t):
    return _gait(person, rng, t, run=True)


def _punch(person, rng, t) -> list[Pose]:
    """Straight punches from a boxing guard, left and right in turn, now and then the same hand twice."""
    period, start = rng.uniform(0.5, 0.7), rng.uniform(0, 1)
    hands = np.cumsum(rng.random(16) < 0.8) % 2
    stance, depth, height = rng.uniform(0.12, 0.16), rng.uniform(0.03, 0.06), rng.uniform(-0.05, 0.1)
    poses = []
    for beat in t / period + start:
        hand, push = hands[int(beat)], np.sin(pi * min(1, beat % 1 / 0.75)) ** 1.3
        stride = [complex(-stance, ANKLE), complex(stance, ANKLE)]
        hip = complex(0.05 * push - 0.02, ANKLE + (THIGH + SHANK) * person.leg * 0.955 - depth)
        pose = _standing(person, hip, 0.1 + 0.16 * push, stride, tilt=0.1)
        for side in (0, 1):
            guard = pose.shoulder + complex(0.15 - 0.05 * side, 0.03 + 0.02 * sin(2 * pi * beat))
            far = pose.shoulder + (UPPER_ARM + FOREARM) * exp(1j * height) + 0.02
            target = guard + (far - guard) * (push if side == hand else 0) * min(1, person.energy)
            pose.arms.append(_reach(pose.shoulder, target, UPPER_ARM, FOREARM, -1))
        poses.append(pose)
    return poses


def _jump(person, rng, t) -> list[Pose]:
    """Jumps on the spot: crouch with the arms back, fly with the arms up and the legs tucked, land."""
    period, start = rng.uniform(1.0, 1.25), rng.uniform(0.75, 1.1)
    power, tuck = rng.uniform(0.13, 0.17) * person.energy, rng.uniform(0.06, 0.12)
    tall, deep, reach = ANKLE + (THIGH + SHANK) * person.leg * 0.985, rng.uniform(0.12, 0.17), rng.uniform(1.9, 2.4)
    poses = []
    for p in (t / period + start) % 1:
        crouch = np.interp(p, [0, 0.28, 0.42, 0.78, 0.88, 1], [0, 1, 0, 0, 0.8, 0])
        swing = np.interp(p, [0, 0.28, 0.5, 0.7, 0.88, 1], [0, -0.9, reach, reach, 0.2, 0])
        air = max(0.0, 1 - ((p - 0.6) / 0.18) ** 2)
        lift = complex(0, ANKLE + air * (power + tuck))
        hip = complex(-0.09 * crouch, tall - deep * crouch + power * air)
        feet = [complex(0.03, 0) + lift - 0.06 * air, complex(-0.03, 0) + lift - 0.1 * air]
        poses.append(_hang(_standing(person, hip, 0.08 + 0.6 * crouch, feet, -0.6 * air, 0.2 * crouch - 0.2 * air),
                           swing, 0.35))
    return poses


def _sit_down(person, rng, t) -> list[Pose]:
    """From standing in front of a chair to sitting on it; pauses and easing are alike at both ends."""
    before, after = rng.uniform(0.06, 0.22, 2)
    seat, bow, flex = rng.uniform(0.255, 0.285), radians(rng.uniform(30, 45)), rng.uniform(0.2, 0.4)
    tall, u = ANKLE + (THIGH + SHANK) * person.leg * 0.99, np.linspace(0, 1, len(t))
    poses = []
    for s in _ease((u - before) / (1 - before - after)):
        hip = complex(0.1 - 0.23 * s, tall + (seat + 0.06 - tall) * s ** 1.2)
        pose = _standing(person, hip, 0.04 + bow * sin(pi * s) - 0.04 * s, [0.13 + 1j * ANKLE, 0.09 + 1j * ANKLE])
        hands = [end for _, end in _hang(pose, 0.0, flex).arms]
        knees = [knee + complex(-0.05, 0.06) for knee, _, _ in pose.legs]
        pose.arms = [_reach(pose.shoulder, h + (k - h) * s, UPPER_ARM, FOREARM, -1) for h, k in zip(hands, knees)]
        pose.chair = complex(-0.14, seat)
        poses.append(pose)
    return poses


def _pick_up(person, rng, t) -> list[Pose]:
    """Bends down to a box, takes it, lifts it to the waist; the time line is symmetric in distribution."""
    before, after = rng.uniform(0.06, 0.2, 2)
    middle, grip = rng.uniform(0.44, 0.56), rng.uniform(0.02, 0.06)
    tall, u = ANKLE + (THIGH + SHANK) * person.leg * 0.99, np.linspace(0, 1, len(t))
    floor, low = complex(rng.uniform(0.19, 0.22), 0.085), complex(-0.2, rng.uniform(0.3, 0.42))
    hold = complex(0.2, rng.uniform(0.07, 0.15))
    # The smallest lean that brings the box within reach of the arms.
    lean = next(a for a in np.linspace(0.5, 2.2, 100)
                if abs(low + 1j * TORSO * exp(-1j * a) - floor) < 0.94 * (UPPER_ARM + FOREARM) or a > 2.19)
    poses = []
    for down, up in zip(_ease((u - before) / (middle - grip - before)),
                        _ease((u - middle - grip) / (1 - after - middle - grip))):
        bent = down * (1 - up)
        hip = complex(-0.04, tall) * (1 - bent) + low * bent
        pose = _standing(person, hip, 0.03 + (lean - 0.03) * bent, [1j * ANKLE - 0.02, 1j * ANKLE - 0.07])
        pose.box = floor + (hip + hold - floor) * up
        pose.arms = [_reach(pose.shoulder, hand + (pose.box - 0.02j - hand) * down, UPPER_ARM, FOREARM, -1)
                     for _, hand in _hang(pose).arms]
        poses.append(pose)
    return poses


# ---------------------------------------------------------------------------------------------- drawing
class Pen:
    """Draws rounded shapes on `image` (H, W, 3); points in statures from `origin` (pixels), y up."""

    def __init__(self, image, origin: tuple[float, float], scale: float):
        self.image, self.origin, self.scale = image, origin, scale

    def _pixel(self, z: complex) -> tuple[int, int]:
        """OpenCV's fixed-point coordinates, 4 fractional bits."""
        x, y = self.origin
        return round(16 * (x + z.real * self.scale)), round(16 * (y - z.imag * self.scale))

    def polygon(self, points, colour):
        cv2.fillConvexPoly(self.image, np.array([self._pixel(z) for z in points]), colour.tolist(), cv2.LINE_AA, 4)

    def disc(self, centre, radius, colour):
        x, y = self._pixel(centre)
        cv2.circle(self.image, (x, y), round(radius * self.scale * 16), colour.tolist(), -1, cv2.LINE_AA, 4)

    def ellipse(self, centre, half_width, half_height, colour):
        (x, y), axes = self._pixel(centre), (half_width, half_height)
        cv2.ellipse(self.image, (x, y), [round(a * self.scale * 16) for a in axes], 0, 0, 360, colour.tolist(), -1, cv2.LINE_AA, 4)

    def limb(self, a, b, radius_a, radius_b, colour):
        """A rounded limb from `a` to `b` that tapers from one radius to the other."""
        side = 1j * (b - a) / max(abs(b - a), 1e-6)
        self.polygon([a + side * radius_a, b + side * radius_b, b - side * radius_b, a - side * radius_a], colour)
        self.disc(a, radius_a, colour)
        self.disc(b, radius_b, colour)

    def block(self, centre, width, height, colour):
        w, h = width / 2, 0.5j * height
        self.polygon([centre - w - h, centre + w - h, centre + w + h, centre - w + h], colour)


def _draw_person(pen: Pen, pose: Pose, person: Person):
    """Far limbs first and darker, then torso, head, box, and the near arm on top."""
    g, far = person.girth, 0.74
    sleeve = person.shirt if person.sleeves else person.skin
    shank = person.skin if person.shorts else person.trousers

    def arm(side, shade):
        elbow, hand = pose.arms[side]
        root = pose.shoulder - 0.03 * up
        pen.limb(elbow, hand, 0.03 * g, 0.024 * g, sleeve * shade)
        pen.limb(root, elbow, 0.044 * g, 0.034 * g, person.shirt * shade)
        pen.disc(hand, 0.031, person.skin * shade)

    def leg(side, shade):
        knee, ankle, pitch = pose.legs[side]
        toe, heel = ankle + FOOT * exp(1j * pitch) - 0.016j, ankle - 0.022 * exp(1j * pitch) - 0.012j
        pen.limb(knee, ankle, 0.04 * g, 0.029 * g, shank * shade)
        pen.limb(pose.hip, knee, 0.066 * g, 0.044 * g, person.trousers * shade)
        pen.limb(heel, toe, 0.027, 0.02, person.shoes * shade)

    up = (pose.shoulder - pose.hip) / TORSO
    nod = 1j * exp(-1j * pose.head_tilt)
    head = pose.shoulder + 0.118 * nod
    arm(0, far)
    leg(0, far)
    pen.limb(pose.shoulder, head, 0.034, 0.034, person.skin * 0.85)
    leg(1, 1.0)
    pen.limb(pose.hip, pose.hip + 0.06 * up, 0.072 * g, 0.07 * g, person.trousers)
    pen.limb(pose.hip + 0.085 * up, pose.shoulder - 0.035 * up, 0.07 * g, 0.08 * g, person.shirt)
    _draw_head(pen, head, nod, person)
    if pose.box is not None:
        pen.block(pose.box, 0.19, 0.17, BOX)
        pen.block(pose.box + 0.055j, 0.19, 0.06, BOX * 0.82)
        pen.block(pose.box, 0.035, 0.17, BOX * 1.15)
    pen.limb(pose.shoulder - 0.03 * up, pose.arms[1][0], 0.056 * g, 0.046 * g, person.shirt * 0.8)  # a soft outline
    arm(1, 1.08)


def _draw_head(pen: Pen, head: complex, nod: complex, person: Person):
    """Hair behind, face and nose in front, so that the direction of view is seen; `nod` points to the crown."""
    front = -1j * nod
    if person.hairstyle == 1:
        pen.limb(head - 0.035 * front, head - 0.055 * front - 0.09 * nod, 0.06, 0.035, person.hair)
    if person.hairstyle == 2:
        pen.disc(head - 0.085 * front + 0.045 * nod, 0.036, person.hair)
    pen.disc(head - 0.012 * front + 0.014 * nod, 0.084, person.hair)
    pen.disc(head + 0.02 * front - 0.014 * nod, 0.069, person.skin)
    pen.disc(head + 0.088 * front - 0.016 * nod, 0.014, person.skin)
    pen.disc(head - 0.022 * front - 0.012 * nod, 0.017, person.skin * 0.88)
    pen.disc(head + 0.05 * front + 0.006 * nod, 0.011, DARK)
    if person.hairstyle == 3:
        pen.limb(head - 0.03 * front + 0.045 * nod, head + 0.03 * front + 0.045 * nod, 0.055, 0.05, person.shirt * 0.7)
        pen.limb(head + 0.03 * front + 0.024 * nod, head + 0.11 * front + 0.02 * nod, 0.016, 0.01, person.shirt * 0.7)


def _backdrop(rng, person: Person, height: int, width: int, horizon: int):
    """A plain room (height, width, 3) with a few pale pieces of furniture at its wall; also the floor's colour."""
    clothes = [person.shirt, person.trousers, person.skin, person.hair]
    wall = _colour(rng, clothes, (0.1, 0.35), (0.75, 0.97))
    floor = _colour(rng, [*clothes, wall], (0.1, 0.4), (0.6, 0.9))
    light = np.linspace(1.04, 0.94, height)[:, None, None]
    room = np.ones((height, width, 3)) * wall * light
    room[horizon:] = floor * np.linspace(0.9, 1.06, height - horizon)[:, None, None]
    room[horizon - height // 60:horizon] = wall * 0.3 + 178
    room = np.clip(room, 0, 255).astype(np.uint8)
    pen, x = Pen(room, (0, horizon), height), rng.uniform(0, 0.3)
    while x < width / height:
        tone, w = wall * 0.7 + 0.3 * rng.uniform(60, 255, 3), rng.uniform(0.14, 0.26)
        kind = rng.integers(4)
        if kind == 0:  # a picture
            pen.block(complex(x, 0.52), w, w * 0.8, wall * 0.8)
            pen.block(complex(x, 0.52), w - 0.03, w * 0.8 - 0.03, tone)
        elif kind == 1:  # a window
            for side in (-1, 1):
                pen.block(complex(x + side * w * 0.3, 0.5), w * 0.57, 0.36, wall * 0.3 + 178)
                pen.block(complex(x + side * w * 0.3, 0.5), w * 0.47, 0.32, wall * 0.5 + (90, 110, 122))
        elif kind == 2:  # a cupboard
            pen.block(complex(x, 0.14), w, 0.28, tone)
            for y in (0.07, 0.2):
                pen.block(complex(x, y), w - 0.03, 0.1, tone * 0.93)
        else:  # a plant
            for lean in (-0.5, 0, 0.5):
                pen.limb(complex(x, 0.08), complex(x + 0.16 * sin(lean), 0.2 + 0.06 * cos(lean)), 0.02, 0.035, wall * 0.6 + (20, 60, 30))
            pen.limb(complex(x, 0.03), complex(x, 0.09), 0.035, 0.05, tone * 0.9)
        x += w + rng.uniform(0.2, 0.5)
    return room, floor


def render_clip(label: str, performer: int, take: int, *, seed: int = 0, size: tuple[int, int] = (128, 128)):
    """Draws one clip: uint8 RGB (T, height, width, 3) at 15 fps, T from 24 to 40; a function of its arguments alone.

    Twins of the same performer and take are exact reverses: `render_clip("stand_up", p, t)` is
    `render_clip("sit_down", p, t)[::-1]`. Raises DataError for an unknown label.
    """
    if label not in CLASSES:
        raise DataError(f"unknown label {label!r}: the classes of stick-actions are {', '.join(CLASSES)}")
    backwards = label in ("stand_up", "put_down")
    forward = REVERSED[label] if backwards else label
    rng = np.random.default_rng([seed, performer, take, CLASSES.index(forward)])
    person, (height, width) = _person(seed, performer), (side * SUPERSAMPLE for side in size)
    scale, margin = person.stature * min(height, width), height // 12
    length, mirrored = int(rng.integers(24, 41)), rng.random() < 0.5
    t = np.arange(length) / FPS
    poses = ACTIONS[forward](person, rng, t)
    # The wall is far behind the person and slides by a third of the way.
    slide = np.array([pose.scroll for pose in poses]) * scale * 0.3
    slide += rng.uniform(-0.03, 0.03) * width * np.linspace(-0.5, 0.5, length) + margin  # drift
    room, floor = _backdrop(rng, person, height + 2 * margin, width + int(slide.max()) + 2 * margin, margin + int(height * 0.82))
    shake = sum(rng.uniform(0.001, 0.006) * height * exp(1j) .real* np.sin(2 * pi * f * t[:, None] + rng.uniform(0, 2 * pi, 2)) for f in rng.uniform(0.4, 2.5, 3))
    chair = _colour(rng, [person.trousers, person.shirt, floor], (0.3, 0.7), (0.3, 0.9))
    frames = np.empty((length, *size, 3), np.uint8)
    for i, pose in enumerate(poses):
        dx, dy = shake[i]
        top, left = margin + round(dy), round(slide[i] + dx)
        canvas = room[top:top + height, left:left + width].copy()
        pen = Pen(canvas, (width / 2 - dx, height * 0.945 - dy), scale)
        _draw_shadow_and_chair(pen, pose, floor, chair)
        _draw_person(pen, pose, person)
        frames[i] = cv2.resize(canvas, size[::-1], interpolation=cv2.INTER_AREA)
    if mirrored:
        frames = frames[:, :, ::-1]
    return np.ascontiguousarray(frames[::-1] if backwards else frames)


def _draw_shadow_and_chair(pen, pose, floor, colour):
    spread = [ankle.real for _, ankle, _ in pose.legs] + [pose.hip.real]
    fade = 1 / (1 + 2 * max(0.0, min(ankle.imag for _, ankle, _ in pose.legs) - ANKLE))
    for grow, shade in ((0.1, 0.9), (0.07, 0.8)):
        pen.ellipse(complex((min(spread) + max(spread)) / 2 + 0.03, -0.01), ((max(spread) - min(spread)) / 2 + grow) * fade, 0.03 * fade * grow/.08, floor * shade)
    if pose.box is not None:
        pen.ellipse(complex(pose.box.real, -0.01), 0.1, 0.02, floor * 0.85)
    if pose.chair is not None:
        seat = pose.chair
        for x in (-0.11, 0.1):
            pen.limb(seat + x, complex(seat.real + x * 1.1, 0.0), 0.014, 0.012, colour * 0.8)
        pen.limb(seat - 0.12, seat - 0.15 + 0.3j, 0.016, 0.014, colour * 0.9)
        pen.limb(seat - 0.12, seat + 0.11, 0.022, 0.022, colour)


BOX = np.float32((206, 150, 88))
DARK = np.float32((36, 30, 34))
ACTIONS = {"walk": _walk, "run": _run, "punch": _punch, "jump": _jump, "sit_down": _sit_down, "pick_up": _pick_up}


# ---------------------------------------------------------------------------------------------- files
@contextmanager
def _stderr_closed():
    """Sends the process's stderr to nowhere: OpenCV prints a needless line about the VP80 tag for each WebM."""
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


def _write_clip(path: Path, label: str, performer: int, take: int, seed: int, size: tuple[int, int]):
    """Renders one clip into a WebM file and reads it back: on a full disk OpenCV cuts a video short without a word."""
    frames = render_clip(label, performer, take, seed=seed, size=size)
    # VP8 in WebM plays in every browser. OpenCV gives it 2 bits per pixel, which flat colours do not use up.
    with _stderr_closed():
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"VP80"), FPS, size[::-1])
    for frame in frames:
        writer.write(frame[..., ::-1])
    writer.release()
    capture, count = cv2.VideoCapture(str(path)), 0
    while capture.grab():
        count += 1
    capture.release()
    if count != len(frames):
        raise DataError(f"{path}: {count} of {len(frames)} frames could be written; "
                        "is the disk full, or OpenCV without its VP8 encoder?")


def _plan(settings: dict) -> pd.DataFrame:
    """One row per video: video_name, label, group, split, performer, take; splits go by performer."""
    split_of = [s for s, count in zip(SPLITS, settings["performers"]) for _ in range(count)]
    rows = []
    for performer, split in enumerate(split_of):
        for label in CLASSES:
            # Twins get different takes. With the same ones each stand_up file would be a sit_down file reversed,
            # and a model could profit from having seen its pictures.
            first = settings["takes"] if label in ("stand_up", "put_down") else 0
            for take in range(first, first + settings["takes"]):
                name = f"{label}/{label}_p{performer:02d}_t{take:02d}.webm"
                rows.append((name, label, f"p{performer:02d}", split, performer, take))
    return pd.DataFrame(rows, columns=["video_name", "label", "group", "split", "performer", "take"])


def _found(root: Path) -> dict | None:
    """The settings of the stick-actions at `root`, None where there is nothing; DataError for anything else."""
    try:
        if not root.exists() or root.is_dir() and not any(root.iterdir()):
            return None
        settings = json.loads((root / "dataset.json").read_text(encoding="utf-8"))
        if settings["name"] == "stick-actions":
            return settings
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise DataError(f"{root}: holds files, but not stick-actions (no dataset.json of it); nothing was touched: "
                    "name another folder, or move these files away")


def generate(root: Path | str, *, seed: int = 0, performers: tuple[int, int, int] = (20, 5, 10), takes: int = 2,
             size: tuple[int, int] = (128, 128), jobs: int | None = None, progress: bool = True) -> Path:
    """Writes the dataset: `videos/<label>/*.webm`, `train.csv`, `val.csv`, `test.csv` and `dataset.json`.

    `performers` counts the people of train, val and test; each does every action `takes` times; `size` is
    (height, width) in pixels, even. `jobs` processes draw at the same time (default: one per core).
    A folder with the same settings and all its files is left as it is; one with other settings is replaced once
    the new one is complete. Raises DataError where the folder holds something else or cannot be written.
    """
    root = Path(root)
    if min(performers) < 0 or takes < 1 or min(size) < 32 or any(side % 2 for side in size):
        raise DataError(f"stick-actions: performers={performers}, takes={takes}, size={size} cannot be made: "
                        "counts are positive, sides are even and at least 32 pixels")
    settings = {"name": "stick-actions", "version": VERSION, "seed": seed, "performers": list(performers),
                "takes": takes, "size": list(size), "fps": FPS, "classes": list(CLASSES)}
    plan, partial = _plan(settings), root.with_name(f"{root.name}.partial-{os.getpid()}")
    names = [f"{split}.csv" for split in SPLITS] + [f"videos/{name}" for name in plan.video_name]
    if _found(root) == settings and all((root / name).is_file() for name in names):
        return root
    try:
        for label in CLASSES:
            (partial / "videos" / label).mkdir(parents=True, exist_ok=True)
        work = [joblib.delayed(_write_clip)(partial / "videos" / row.video_name, row.label, row.performer, row.take,
                                            seed, tuple(size)) for row in plan.itertuples()]
        done = joblib.Parallel(n_jobs=jobs or joblib.cpu_count(), return_as="generator_unordered")(work)
        for _ in tqdm(done, total=len(work), desc="stick-actions", unit="video", disable=not progress):
            pass
        for split, rows in plan.groupby("split"):
            rows[["video_name", "label", "group"]].to_csv(partial / f"{split}.csv", index=False)
        (partial / "dataset.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")
        if _found(root) is not None:
            shutil.rmtree(root)
        elif root.exists():
            root.rmdir()
        partial.rename(root)
    except OSError as error:
        raise DataError(f"{root}: cannot be written ({error.strerror}); name another folder or make room") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return root
