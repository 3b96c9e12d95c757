"""codebooks: which plans' weights are sent as indices, and where the hardware keeps their codes.

Weight words of at most 16 different codes, those of padding included, need 4 bits a weight:
whatever made them so (a clustering, ternary or binary weights, the ones of a pool).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from qcompile.compiler.ir import Int8Array
from qcompile.compiler.layers import Layer
from qcompile.compiler.plan import Plan
from qcompile.hw.program import CODEBOOK_LEVELS, CODEBOOKS, codebook_packet


def with_codebook(plan: Plan) -> Plan:
    """The plan with its weights packed, where that is possible and makes the program shorter.

    Two packed words are one word of the weight FIFO and of memory, so groups have whole ones.
    """
    if plan.weights.shape[1] % 2:
        return plan
    present = np.bincount(plan.weights.view(np.uint8).reshape(-1), minlength=256)
    codes = np.sort(np.flatnonzero(present).astype(np.uint8).view(np.int8))
    if len(codes) > CODEBOOK_LEVELS or plan.stream_words <= len(codes) + 1:
        return plan
    return replace(plan, codebook=codes)


def parts_saved(layers: Sequence[Layer], plans: Sequence[Plan]) -> int:
    """Stream words by which codebooks make a program of plain plans shorter."""
    packed = [
        with_codebook(plan)
        for layer, plan in zip(layers, plans, strict=True)
        if layer.weight_source is None
    ]
    return sum(
        plan.stream_parts - len(plan.codebook) - 1 for plan in packed if plan.codebook is not None
    )


class Codebooks:
    """The codebooks that the hardware holds, as the program goes on.

    A new one takes the place of the one that was used longest ago: `CODEBOOKS` layers back, while
    at most `LAYER_SLOTS` and one more have not ended when the stream brings it.
    """

    def __init__(self) -> None:
        self._numbers: dict[bytes, int] = {}  # the one used longest ago first

    def use(self, codes: Int8Array) -> tuple[int, list[int]]:
        """A codebook's number for the next layer, and the packet that brings it, if one must."""
        key = codes.tobytes()
        number = self._numbers.pop(key, None)
        packet: list[int] = []
        if number is None:
            number = len(self._numbers)
            if number == CODEBOOKS:
                number = self._numbers.pop(next(iter(self._numbers)))
            packet = codebook_packet(number, codes)
        self._numbers[key] = number
        return number, packet
