"""What the people of stick-actions look like: their proportions and clothes, and how they are drawn.

Points and lengths are those of `stick_motion`.
"""

from cmath import exp
from types import SimpleNamespace

import cv2
import numpy as np

from varec_lib.data.stick_motion import ANKLE, FOOT, TORSO, Pose

SKIN = np.float32([[255, 219, 185], [241, 194, 150], [214, 158, 110], [172, 112, 70], [128, 80, 52], [92, 58, 40]])
HAIR = np.float32([[30, 26, 28], [66, 42, 30], [110, 66, 36], [150, 64, 32], [222, 178, 92], [150, 150, 156]])
CARTON, DARK = np.float32([(206, 150, 88), (36, 30, 34)])


class Pen:
    """Draws rounded shapes on `image` (H, W, 3); points in statures (`scale` pixels) from `origin`, y up."""

    def __init__(self, image: np.ndarray, origin: complex, scale: float):
        self.image, self.origin, self.scale = image, origin, scale

    def _pixel(self, z: complex) -> tuple[int, int]:
        z = 16 * (self.origin + self.scale * z.conjugate())  # OpenCV's fixed point: 4 fractional bits
        return round(z.real), round(z.imag)

    def ellipse(self, centre, width, height, colour):
        axes = (round(8 * width * self.scale), round(8 * height * self.scale))
        cv2.ellipse(self.image, self._pixel(centre), axes, 0, 0, 360, colour.tolist(), -1, cv2.LINE_AA, 4)

    def disc(self, centre, radius, colour):
        radius = round(16 * radius * self.scale)
        cv2.circle(self.image, self._pixel(centre), radius, colour.tolist(), -1, cv2.LINE_AA, 4)

    def polygon(self, points, colour):
        corners = np.array([self._pixel(z) for z in points])
        cv2.fillConvexPoly(self.image, corners, colour.tolist(), cv2.LINE_AA, 4)

    def block(self, centre, width, height, colour):
        w, h = width / 2, 0.5j * height
        self.polygon([centre - w - h, centre + w - h, centre + w + h, centre - w + h], colour)

    def limb(self, a, b, radius_a, radius_b, colour):
        side = 1j * (b - a) / max(abs(b - a), 1e-6)
        at_a, at_b = side * radius_a, side * radius_b
        self.polygon([a + at_a, b + at_b, b - at_b, a - at_a], colour)
        self.disc(a, radius_a, colour)
        self.disc(b, radius_b, colour)


def pick_colour(rng, avoid, saturation: tuple, value: tuple) -> np.ndarray:
    """The one of five random colours (RGB, 0-255) that is farthest, in CIELAB, from all in `avoid`."""
    hsv = np.stack([rng.uniform(0, 360, 5), rng.uniform(*saturation, 5), rng.uniform(*value, 5)], 1)
    rgb = cv2.cvtColor(hsv[None].astype(np.float32), cv2.COLOR_HSV2RGB)
    lab, others = (cv2.cvtColor(c, cv2.COLOR_RGB2LAB)[0] for c in (rgb, np.float32(avoid)[None] / 255))
    return rgb[0, np.linalg.norm(lab[:, None] - others, axis=2).min(axis=1).argmax()] * 255


def make_person(seed: int, performer: int) -> SimpleNamespace:
    """A performer's proportions (1 = average), habits and colours: the same in all of their takes."""
    rng = np.random.default_rng([seed, performer])
    tone = rng.integers(6)
    skin, hair = SKIN[tone], HAIR[rng.integers(6 if tone < 3 else 2)]
    shirt = pick_colour(rng, [skin, hair], (0.45, 0.75), (0.5, 0.92))
    trousers = pick_colour(rng, [skin, shirt], (0.3, 0.8), (0.2, 0.6))
    shoes = pick_colour(rng, [skin, trousers], (0, 0.6), (0.15, 0.95))
    return SimpleNamespace(
        skin=skin,
        hair=hair,
        shirt=shirt,
        trousers=trousers,
        shoes=shoes,
        forearm=shirt if rng.random() < 0.5 else skin,
        shank=skin if rng.random() < 0.3 else trousers,
        hairstyle=("short", "long", "bun", "cap")[rng.integers(4)],
        stature=rng.uniform(0.78, 0.84),  # as a fraction of the frame
        girth=rng.uniform(0.88, 1.2),
        leg=rng.uniform(0.95, 1.04),
        energy=rng.uniform(0.88, 1.12),
    )


def draw_person(pen: Pen, pose: Pose, person):
    """Far limbs first and darker, then torso, head and box, and the near arm on top."""
    up, g = (pose.shoulder - pose.hip) / TORSO, person.girth

    def draw_arm(side, shade):
        elbow, hand = pose.arms[side]
        pen.limb(elbow, hand, 0.03 * g, 0.024 * g, person.forearm * shade)
        pen.limb(pose.shoulder - 0.03 * up, elbow, 0.044 * g, 0.034 * g, person.shirt * shade)
        pen.disc(hand, 0.031, person.skin * shade)

    def draw_leg(side, shade):
        knee, ankle, pitch = pose.legs[side]
        pen.limb(knee, ankle, 0.04 * g, 0.029 * g, person.shank * shade)
        pen.limb(pose.hip, knee, 0.066 * g, 0.044 * g, person.trousers * shade)
        heel, toe = ankle - 0.022 * exp(1j * pitch) - 0.012j, ankle + FOOT * exp(1j * pitch) - 0.016j
        pen.limb(heel, toe, 0.027, 0.02, person.shoes * shade)

    draw_arm(0, 0.74)
    draw_leg(0, 0.74)
    head = pose.shoulder + 0.118j * exp(-1j * pose.tilt)
    pen.limb(pose.shoulder, head, 0.034, 0.034, person.skin * 0.85)
    draw_leg(1, 1.0)
    pen.limb(pose.hip, pose.hip + 0.06 * up, 0.072 * g, 0.07 * g, person.trousers)
    pen.limb(pose.hip + 0.085 * up, pose.shoulder - 0.035 * up, 0.07 * g, 0.08 * g, person.shirt)
    _draw_head(pen, head, exp(-1j * pose.tilt), person)
    if pose.box is not None:
        pen.block(pose.box, 0.19, 0.17, CARTON)
        pen.block(pose.box + 0.055j, 0.19, 0.06, CARTON * 0.82)
        pen.block(pose.box, 0.035, 0.17, CARTON * 1.15)
    # A soft outline sets the near arm off from the torso.
    pen.limb(pose.shoulder - 0.03 * up, pose.arms[1][0], 0.055 * g, 0.045 * g, person.shirt * 0.8)
    draw_arm(1, 1.08)


def _draw_head(pen: Pen, head: complex, front: complex, person):
    """Hair behind, face, ear, eye and nose in front, so that the direction of view is seen."""
    if person.hairstyle == "long":
        pen.limb(head - 0.035 * front, head - (0.055 + 0.09j) * front, 0.06, 0.035, person.hair)
    if person.hairstyle == "bun":
        pen.disc(head - (0.085 - 0.045j) * front, 0.036, person.hair)
    pen.disc(head + (0.014j - 0.012) * front, 0.084, person.hair)
    pen.disc(head + (0.02 - 0.014j) * front, 0.069, person.skin)
    pen.disc(head + (0.088 - 0.016j) * front, 0.014, person.skin)  # nose
    pen.disc(head - (0.022 + 0.012j) * front, 0.017, person.skin * 0.88)  # ear
    pen.disc(head + (0.05 + 0.006j) * front, 0.011, DARK)  # eye
    if person.hairstyle == "cap":
        cap = person.shirt * 0.7
        pen.limb(head + (0.045j - 0.03) * front, head + (0.045j + 0.03) * front, 0.055, 0.05, cap)
        pen.limb(head + (0.024j + 0.03) * front, head + (0.02j + 0.11) * front, 0.016, 0.01, cap)


def draw_props(pen: Pen, pose: Pose, floor, wood):
    """Shadows on the ground, smaller when the feet leave it, and the chair."""
    feet = [ankle.real for _, ankle, _ in pose.legs] + [pose.hip.real]
    centre, width = (min(feet) + max(feet)) / 2 + 0.03 - 0.01j, max(feet) - min(feet)
    fade = 1 / (1 + 2 * max(0.0, min(ankle.imag for _, ankle, _ in pose.legs) - ANKLE))
    for grow, shade in ((0.2, 0.9), (0.13, 0.8)):
        pen.ellipse(centre, (width + grow) * fade, 0.35 * grow * fade, floor * shade)
    if pose.box is not None:
        pen.ellipse(pose.box.real - 0.01j, 0.22, 0.04, floor * 0.85)
    if pose.chair is not None:
        for x in (-0.11, 0.1):
            pen.limb(pose.chair + x, complex(pose.chair.real + 1.1 * x, 0), 0.014, 0.014, wood * 0.8)
        pen.limb(pose.chair - 0.12, pose.chair - 0.15 + 0.3j, 0.016, 0.014, wood * 0.9)
        pen.limb(pose.chair - 0.12, pose.chair + 0.11, 0.022, 0.022, wood)
