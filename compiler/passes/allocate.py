"""allocate: gives every tensor a bank and an address; a layer never writes the bank it reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from qcompile.compiler.errors import CapacityError
from qcompile.compiler.layers import Layer, Shape3, stored_tensors
from qcompile.compiler.machine import Machine
from qcompile.compiler.passes.lowering.cost import SMALL_MACHINE
from qcompile.hw.layouts import BANK_ADDRESS_BITS


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where a tensor lies: bank 0 or 1, first word in it, words."""

    bank: int
    offset: int
    words: int
    shape: Shape3

    @property
    def address(self) -> int:
        """As the host says it: bank in bit 14."""
        return self.bank << BANK_ADDRESS_BITS | self.offset


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """A tensor's words and bank, and the layers from and to which it is kept.

    Layers count from 0; graph inputs and stored constants live from -1, outputs to the number of
    layers, and all of these for both where inputs queue.
    """

    name: str
    shape: Shape3
    words: int
    bank: int
    first: int
    last: int


def allocate(
    layers: Sequence[Layer],
    inputs: Sequence[str],
    outputs: Sequence[str],
    room: int,
    machine: Machine = SMALL_MACHINE,
    *,
    queued: bool = False,
) -> Mapping[str, Placement]:
    """Placements of all tensors, largest first into the lowest free offset of their bank, which
    has `room` words.

    Banks: an output lies in the other bank than its layer's input, so a tensor of several layers
    needs inputs of one bank (ValueError otherwise; `lower` sees to it). Graph inputs and stored
    constants live from the start and, so that a second run needs no new input, outputs until the
    end. Where the machine can, a sum takes the place of an operand that ends there. `queued`:
    inputs, stored constants and outputs have places of their own for the whole run, so that the
    host can write the next inputs and read the last outputs meanwhile. Raises CapacityError,
    naming the tensor, with needed and available bytes.
    """
    lives = lives_of(layers, inputs, outputs, machine, queued=queued)
    replaced = _replaced(lives, layers, machine)
    ways = [
        (turned, over)
        for over in ([replaced, {}] if replaced else [{}])
        for turned in (lives, [replace(life, bank=1 - life.bank) for life in lives])
    ]
    for turned, over in ways[:-1]:
        try:
            return _place(turned, over, room, machine)
        except CapacityError:
            continue
    return _place(*ways[-1], room, machine)


def words_needed(
    layers: Sequence[Layer],
    inputs: Sequence[str],
    outputs: Sequence[str],
    machine: Machine = SMALL_MACHINE,
    *,
    queued: bool = False,
) -> int:
    """The smallest `room` with which `allocate` succeeds."""
    lives = lives_of(layers, inputs, outputs, machine, queued=queued)
    ends = []
    for over in (_replaced(lives, layers, machine), {}):
        places = _place(lives, over, sum(life.words for life in lives), machine)
        ends.append(max(place.offset + place.words for place in places.values()))
    return min(ends)


def _replaced(lives: Sequence[Life], layers: Sequence[Layer], machine: Machine) -> dict[str, str]:
    """Sum -> the residual operand whose place it takes: each word is read before it is written."""
    if not machine.adds_in_place:
        return {}
    by_name = {life.name: life for life in lives}
    return {
        layer.output: layer.residual
        for index, layer in enumerate(layers)
        if layer.residual is not None
        and layer.region is None
        and layer.residual_channel == 0
        and by_name[layer.residual].last == index == by_name[layer.output].first
        and by_name[layer.residual].bank == by_name[layer.output].bank
        and by_name[layer.residual].shape == by_name[layer.output].shape
    }


def lives_of(
    layers: Sequence[Layer],
    inputs: Sequence[str],
    outputs: Sequence[str],
    machine: Machine = SMALL_MACHINE,
    *,
    queued: bool = False,
) -> list[Life]:
    """Every tensor's; ValueError where a layer would write the bank that it reads."""
    shapes: dict[str, Shape3] = {}
    early = (*inputs, *stored_tensors(layers))
    bank: dict[str, int] = dict.fromkeys(early, 0)
    first: dict[str, int] = dict.fromkeys(early, -1)
    last: dict[str, int] = dict.fromkeys(early, 0)
    for index, layer in enumerate(layers):
        shapes.setdefault(layer.input, layer.input_shape)
        shapes[layer.output] = layer.tensor_shape
        if bank.setdefault(layer.output, 1 - bank[layer.input]) == bank[layer.input]:
            raise ValueError(f"'{layer.name}' would write the bank that it reads")
        first.setdefault(layer.output, index)
        last[layer.output] = last[layer.input] = index
        if layer.weight_source is not None:
            last[layer.weight_source] = index
        if layer.residual is not None:
            shapes.setdefault(layer.residual, layer.tensor_shape)
            last[layer.residual] = index
    for name in outputs:
        last[name] = len(layers)
    if queued:
        last |= dict.fromkeys(early, len(layers))
        first |= dict.fromkeys(outputs, -1)
    return [
        Life(
            name=name,
            shape=shape,
            words=machine.words(shape),
            bank=bank[name],
            first=first[name],
            last=last[name],
        )
        for name, shape in shapes.items()
    ]


def _place(
    lives: Sequence[Life], over: Mapping[str, str], room: int, machine: Machine
) -> dict[str, Placement]:
    """`over`: tensor -> the one whose place it takes."""
    owner: dict[str, str] = {}
    joined: dict[str, Life] = {}
    for life in sorted(lives, key=lambda life: life.first):  # operands in front of their sums
        owner[life.name] = name = owner[over[life.name]] if life.name in over else life.name
        before = joined.get(name, life)
        joined[name] = replace(before, last=max(before.last, life.last))
    placed: dict[str, Placement] = {}
    for life in sorted(joined.values(), key=lambda life: (-life.words, life.first)):
        taken = sorted(
            (place.offset, place.offset + place.words)
            for name, place in placed.items()
            if place.bank == life.bank
            and joined[name].first <= life.last
            and life.first <= joined[name].last
        )
        offset = 0
        for begin, end in taken:
            if offset + life.words <= begin:
                break
            offset = max(offset, end)
        free = room - offset
        if life.words > free:
            raise does_not_fit(life, free, room, machine)
        placed[life.name] = Placement(
            bank=life.bank, offset=offset, words=life.words, shape=life.shape
        )
    return {life.name: placed[owner[life.name]] for life in lives}


def does_not_fit(
    life: Life, free: int, room: int, machine: Machine = SMALL_MACHINE
) -> CapacityError:
    """The refusal of a tensor for which a bank of `room` words has only so many free ones."""
    word = machine.word_bytes
    bytes_ = f"{free * word:,} of {room * word:,} bytes"
    return CapacityError(
        f"'{life.name}' {list(life.shape)} does not fit the activation memory",
        context=[
            f"needs {life.words * word:,} bytes in one bank",
            f"free in it beside the tensors alive at that time: {bytes_}",
        ],
        help="use a smaller input or fewer channels in the widest layers",
    )
