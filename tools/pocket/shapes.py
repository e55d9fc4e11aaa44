"""What the picture world and the video world have in common: colours, names of shapes, and the forms drawn alike in both."""

import math

import torch

COLOURS = {"red": (220, 40, 40), "orange": (245, 140, 30), "yellow": (250, 220, 50), "green": (40, 160, 70), "blue": (50, 90, 220), "purple": (140, 60, 180), "white": (245, 245, 245), "black": (25, 25, 25),
           "pink": (250, 150, 190), "brown": (125, 75, 40)}
SHAPES = ["circle", "square", "triangle", "star", "heart", "ring", "cross", "diamond", "arrow"]


def later_distances(circle, rho, x, y, r):
    """Signed distances of ring, cross, diamond and arrow. Each covers about twice the square of r."""
    ring = torch.maximum(circle, 0.5 * r - rho)
    arm = 0.3 * r
    cross = torch.minimum(torch.maximum(x.abs() - r, y.abs() - arm), torch.maximum(x.abs() - arm, y.abs() - r))
    diamond = (x.abs() / 0.75 + y.abs() - 1.15 * r) * 0.6
    # the arrow's head is a triangle with its base at 0 and its point at 1.1
    a = 1.2 * r
    shaft = torch.maximum((x + 0.5 * a).abs() - 0.55 * a, y.abs() - 0.25 * a)
    head = torch.maximum(-x, (0.75 * x + 1.1 * y.abs() - 0.75 * 1.1 * a) / math.hypot(0.75, 1.1))
    return ring, cross, diamond, torch.minimum(shaft, head)


def choose(kind, distances):
    """The distance of each scene's own shape, in the order of SHAPES."""
    out = distances[0]
    for index, value in enumerate(distances[1:], 1):
        out = torch.where(kind == index, value, out)
    return out
