"""How the people of stick-actions move: kinematic poses of six movements.

Lengths are fractions of the person's stature. A point is a complex number: x forward (people face right until
the whole picture is mirrored), y up from the ground. Angles are radians from hanging straight down, positive
forward.
"""

from cmath import exp
from dataclasses import dataclass
from functools import partial
from math import acos, cos, pi, radians, sin

import numpy as np

ANKLE, LEG, TORSO, UPPER_ARM, FOREARM, FOOT = 0.038, 0.24, 0.285, 0.165, 0.155, 0.105  # LEG: thigh = shank


@dataclass
class Pose:
    """Joints of one frame. `legs` holds (knee, ankle, foot pitch), `arms` (elbow, hand); far side first."""

    hip: complex
    shoulder: complex
    legs: list
    arms: list
    tilt: float  # of the head
    box: complex | None = None  # its centre
    chair: complex | None = None  # middle of the seat
    scroll: float = 0.0  # how far the camera has followed the person


def _chain(origin: complex, upper: float, lower: float, length1: float, length2: float):
    """Forward kinematics of a two-part limb from the angles of its parts: middle joint and end."""
    middle = origin - 1j * length1 * exp(1j * upper)
    return middle, middle - 1j * length2 * exp(1j * lower)


def _reach(origin: complex, target: complex, length1: float, length2: float, bend: int):
    """Inverse kinematics: middle joint and end of a limb reaching for `target`; `bend`: knee +1, elbow -1."""
    direction = (target - origin) / max(abs(target - origin), 1e-6)
    far = min(max(abs(target - origin), abs(length1 - length2) + 1e-3), 0.998 * (length1 + length2))
    corner = acos((length1**2 + far**2 - length2**2) / (2 * length1 * far))
    return origin + length1 * direction * exp(1j * bend * corner), origin + far * direction


def _pose(person, hip, lean, feet, pitch=0.0, tilt=None, swing=0.0, flex=0.25) -> Pose:
    """Ankles at `feet` (far, near), a leaning torso, arms at the angle `swing`, elbows bent by `flex`."""
    shoulder, leg = hip + 1j * TORSO * exp(-1j * lean), LEG * person.leg
    return Pose(
        hip,
        shoulder,
        [(*_reach(hip, foot, leg, leg, +1), pitch) for foot in feet],
        [_chain(shoulder, swing + d, swing + d + flex, UPPER_ARM, FOREARM) for d in (0.12, -0.04)],
        0.7 * lean if tilt is None else tilt,
    )


def _ease(x):
    return np.clip(x, 0, 1) ** 2 * (3 - 2 * np.clip(x, 0, 1))


def _gait(person, rng, t, run=False) -> list[Pose]:
    """Walking or running: hips swing as a sine, knees fold in the air, arms swing against the legs."""

    def draw(walking, running):
        return rng.uniform(*(running if run else walking))

    cadence, flight, phase = draw((0.85, 1.1), (1.3, 1.6)), draw((0, 0), (0.03, 0.05)), rng.uniform(0, 2 * pi)
    swing, arm = (person.energy * radians(draw(*x)) for x in (((24, 30), (38, 46)), ((22, 34), (42, 54))))
    fold, rest, elbow, lean, forward = (
        radians(draw(*x))
        for x in (
            ((48, 60), (88, 108)),
            ((4, 8), (16, 24)),
            ((14, 30), (80, 100)),
            ((1, 5), (10, 18)),
            ((1, 3), (10, 14)),
        )
    )
    poses = []
    for phi in 2 * pi * cadence * t + phase:
        legs, low = [], 0.0
        for p in (phi + pi, phi):
            thigh = forward + swing * sin(p)
            shank = thigh - rest - fold * max(0.0, cos(p + 0.45)) ** 1.5
            knee, ankle = _chain(0, thigh, shank, LEG * person.leg, LEG * person.leg)
            legs.append((knee, ankle, 0.75 * shank))
            low = min(low, ankle.imag - ANKLE, (ankle + FOOT * exp(0.75j * shank)).imag - ANKLE / 2)
        hip = 1j * (flight * sin(phi) ** 2 - low)  # the lower foot is on the ground, but for a run's flight
        shoulder = hip + 1j * TORSO * exp(-1j * lean)
        arms = [_chain(shoulder, a, a + elbow, UPPER_ARM, FOREARM) for a in (arm * sin(phi), -arm * sin(phi))]
        scroll = (phi - phase) / (2 * pi) * 8 * LEG * sin(swing) * (1.4 if run else 1)
        legs = [(hip + knee, hip + ankle, pitch) for knee, ankle, pitch in legs]
        poses.append(Pose(hip, shoulder, legs, arms, 0.4 * lean, scroll=scroll))
    return poses


def _punch(person, rng, t) -> list[Pose]:
    """Straight punches from a boxing guard, left and right in turn, now and then the same hand twice."""
    period, start, stance, depth = rng.uniform((0.5, 0, 0.12, 0.03), (0.7, 1, 0.16, 0.06))
    hands, height = np.cumsum(rng.random(16) < 0.8) % 2, rng.uniform(-0.05, 0.1)
    poses = []
    for beat in t / period + start:
        push = min(1, 1.5 * sin(pi * min(1, beat % 1 / 0.8)))
        hip = complex(0.05 * push - 0.02, ANKLE + 1.91 * LEG * person.leg - depth)
        pose = _pose(person, hip, 0.1 + 0.16 * push, [1j * ANKLE - stance, 1j * ANKLE + stance], tilt=0.1)
        for side in (0, 1):
            guard = pose.shoulder + complex(0.15 - 0.05 * side, 0.03 + 0.02 * sin(2 * pi * beat))
            target = pose.shoulder + (UPPER_ARM + FOREARM) * exp(1j * height)
            target = guard + (target - guard) * push * (hands[int(beat)] == side)
            pose.arms[side] = _reach(pose.shoulder, target, UPPER_ARM, FOREARM, -1)
        poses.append(pose)
    return poses


def _jump(person, rng, t) -> list[Pose]:
    """Jumps on the spot: crouch with the arms back, fly with the arms up and the legs tucked, land."""
    period, start, power, tuck, deep, swing = rng.uniform(
        (1, 0.75, 0.13, 0.06, 0.12, 1.6), (1.25, 1.1, 0.165, 0.12, 0.17, 2.0)
    )
    poses = []
    for p in (t / period + start) % 1:
        crouch = np.interp(p, [0, 0.28, 0.42, 0.78, 0.88, 1], [0, 1, 0, 0, 0.8, 0])
        arm = np.interp(p, [0, 0.28, 0.5, 0.7, 0.88, 1], [0, -0.9, swing, swing, 0.2, 0])
        air = max(0.0, 1 - ((p - 0.6) / 0.18) ** 2)
        height = power * person.energy * air
        hip = complex(-0.09 * crouch, ANKLE + 1.97 * LEG * person.leg - deep * crouch + height)
        lift = complex(-0.08 * air, ANKLE + height + tuck * air)
        poses.append(
            _pose(
                person,
                hip,
                0.08 + 0.6 * crouch,
                [lift + 0.03, lift - 0.03],
                -0.6 * air,
                0.2 * crouch - 0.2 * air,
                arm,
                0.35,
            )
        )
    return poses


def _sit_down(person, rng, t) -> list[Pose]:
    """From standing in front of a chair to sitting on it; pauses and easing are alike at both ends."""
    before, after, seat, bow, flex = rng.uniform((0.06, 0.06, 0.255, 0.5, 0.2), (0.22, 0.22, 0.285, 0.8, 0.4))
    tall, poses = ANKLE + 1.98 * LEG * person.leg, []
    for s in _ease((np.linspace(0, 1, len(t)) - before) / (1 - before - after)):
        hip = complex(0.1 - 0.23 * s, tall + (seat + 0.06 - tall) * s)
        lean = 0.04 * (1 - s) + bow * sin(pi * s)
        pose = _pose(person, hip, lean, [0.13 + 1j * ANKLE, 0.09 + 1j * ANKLE], flex=flex)
        pose.arms = [
            _reach(pose.shoulder, hand + (knee - 0.05 + 0.06j - hand) * s, UPPER_ARM, FOREARM, -1)
            for (_, hand), (knee, _, _) in zip(pose.arms, pose.legs, strict=True)
        ]
        pose.chair = complex(-0.14, seat)
        poses.append(pose)
    return poses


def _pick_up(person, rng, t) -> list[Pose]:
    """Bends down to a box, takes it, lifts it to the waist; pauses and easing are alike at both ends."""
    before, after, middle, grip = rng.uniform((0.06, 0.06, 0.44, 0.02), (0.2, 0.2, 0.56, 0.06))
    low, floor = complex(-0.2, rng.uniform(0.3, 0.42)), complex(rng.uniform(0.19, 0.22), 0.085)
    hold = complex(0.2, rng.uniform(0.07, 0.15))  # of the box, from the hip
    tall, u, poses = ANKLE + 1.98 * LEG * person.leg, np.linspace(0, 1, len(t)), []
    lean = next(
        a
        for a in np.linspace(0.5, 2.2, 100)  # the smallest that brings the box within reach
        if a == 2.2 or abs(low + 1j * TORSO * exp(-1j * a) - floor) < 0.94 * (UPPER_ARM + FOREARM)
    )
    downs = _ease((u - before) / (middle - grip - before))
    ups = _ease((u - middle - grip) / (1 - after - middle - grip))
    for down, up in zip(downs, ups, strict=True):
        bent = down * (1 - up)
        hip = (1j * tall - 0.04) * (1 - bent) + low * bent
        pose = _pose(person, hip, 0.03 + (lean - 0.03) * bent, [1j * ANKLE - 0.02, 1j * ANKLE - 0.07])
        pose.box = floor + (hip + hold - floor) * up
        pose.arms = [
            _reach(pose.shoulder, hand + (pose.box - 0.02j - hand) * down, UPPER_ARM, FOREARM, -1)
            for _, hand in pose.arms
        ]
        poses.append(pose)
    return poses


ACTIONS = {
    "walk": _gait,
    "run": partial(_gait, run=True),
    "punch": _punch,
    "jump": _jump,
    "sit_down": _sit_down,
    "pick_up": _pick_up,
}
