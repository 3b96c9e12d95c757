"""Operators of random chains that put values in other places."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sim_tests.compiler.random_chains import MAX_ELEMENTS, Chain


def move(chain: Chain) -> None:
    """Values in other places, in codes or real numbers."""
    dice, network = chain.dice, chain.network
    name, shape, operands, attributes = dice.pick(MOVES)(chain)
    if not name or math.prod(shape) > MAX_ELEMENTS:
        return None
    names = [network.constant(values, "int64") for values in operands]
    if dice.whole(0, 1) and name != "Pad":
        made = network.node(name, chain.codes, *names, **attributes)
        return chain.become(made, shape, chain.parameters, chain.spread)
    made = network.node(name, chain.real(), *names, **attributes)
    return chain.end(made, shape, chain.spread, same=True)


Move = tuple[str, tuple[int, ...], list[list[int]], dict[str, Any]]
NO_MOVE: Move = ("", (), [], {})


def _transpose(chain: Chain) -> Move:
    rest = list(range(1, len(chain.shape)))
    order = []
    while rest:
        order.append(rest.pop(chain.dice.whole(0, len(rest) - 1)))
    axes = [0, *order]
    return "Transpose", tuple(chain.shape[axis] for axis in axes), [], {"perm": axes}


def _slice(chain: Chain) -> Move:
    axis = chain.dice.whole(1, len(chain.shape) - 1)
    size = chain.shape[axis]
    start = chain.dice.whole(0, size - 1)
    step = chain.dice.pick((1, 2, -1))
    places = range(start, -1, -1) if step < 0 else range(start, size, step)
    end = -size - 1 if step < 0 else size
    shape = (*chain.shape[:axis], len(places), *chain.shape[axis + 1 :])
    return "Slice", shape, [[start], [end], [axis], [step]], {}


def _pad(chain: Chain) -> Move:
    before = [0, *(chain.dice.whole(0, 2) for _ in chain.shape[1:])]
    after = [0, *(chain.dice.whole(0, 2) for _ in chain.shape[1:])]
    widths = zip(before, after, chain.shape, strict=True)
    shape = tuple(b + a + size for b, a, size in widths)
    mode = chain.dice.pick(("constant", "edge"))
    return "Pad", shape, [before + after], {"mode": mode}


def _tile(chain: Chain) -> Move:
    repeats = [1, *(chain.dice.pick((1, 1, 2)) for _ in chain.shape[1:])]
    shape = tuple(r * size for r, size in zip(repeats, chain.shape, strict=True))
    return "Tile", shape, [repeats], {}


def _space_to_depth(chain: Chain) -> Move:
    if len(chain.shape) != 4 or chain.shape[2] % 2 or chain.shape[3] % 2:
        return NO_MOVE
    shape = (1, chain.shape[1] * 4, chain.shape[2] // 2, chain.shape[3] // 2)
    return "SpaceToDepth", shape, [], {"blocksize": 2}


def _depth_to_space(chain: Chain) -> Move:
    if len(chain.shape) != 4 or chain.shape[1] % 4:
        return NO_MOVE
    shape = (1, chain.shape[1] // 4, chain.shape[2] * 2, chain.shape[3] * 2)
    return "DepthToSpace", shape, [], {"blocksize": 2, "mode": chain.dice.pick(("DCR", "CRD"))}


def _flatten(chain: Chain) -> Move:
    return "Flatten", (1, chain.elements), [], {"axis": 1}


def _gather(chain: Chain) -> Move:
    axis = chain.dice.whole(1, len(chain.shape) - 1)
    places = [chain.dice.whole(0, chain.shape[axis] - 1) for _ in range(chain.dice.whole(1, 4))]
    shape = (*chain.shape[:axis], len(places), *chain.shape[axis + 1 :])
    return "Gather", shape, [places], {"axis": axis}


def _expand(chain: Chain) -> Move:
    shape = tuple(chain.dice.whole(1, 4) if d == 1 and i else d for i, d in enumerate(chain.shape))
    return "Expand", shape, [list(shape)], {}


MOVES = (
    *(_transpose, _slice, _pad, _tile, _space_to_depth, _depth_to_space, _flatten, _gather),
    _expand,
)


def resize(chain: Chain) -> None:
    """Resize to the nearest value or by linear interpolation, by scales that need not be whole."""
    dice, network = chain.dice, chain.network
    if len(chain.shape) < 3:
        return None
    scales = [1.0, 1.0, *(dice.pick((2.0, 1.0, 3.0, 0.5, 1.5)) for _ in chain.shape[2:])]
    sizes = zip(scales, chain.shape, strict=True)
    shape = tuple(int(np.float32(scale) * np.float32(size)) for scale, size in sizes)
    if not 0 < math.prod(shape) <= MAX_ELEMENTS:
        return None
    if len(shape) == 4 and dice.whole(0, 1):
        mode = dice.pick(("asymmetric", "half_pixel", "align_corners", "pytorch_half_pixel"))
        named = {"coordinate_transformation_mode": mode, "mode": "linear"}
        made = network.node(
            "Resize", chain.real(), "", network.constant(scales, "float32"), **named
        )
        return chain.end(made, shape, chain.spread)
    modes = dice.pick((("asymmetric", "floor"), ("half_pixel", "round_prefer_floor")))
    named = {"coordinate_transformation_mode": modes[0], "nearest_mode": modes[1]}
    made = network.node("Resize", chain.real(), "", network.constant(scales, "float32"), **named)
    return chain.end(made, shape, chain.spread, same=True)
