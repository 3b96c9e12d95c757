"""allocate: banks, no two tensors in one place at one time, and the refusal."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompile.compiler.errors import CapacityError
from qcompile.compiler.layers import Layer, Region, Stored
from qcompile.compiler.lines.machine import LinesMachine
from qcompile.compiler.passes.allocate import Placement, allocate, words_needed
from qcompile.hw.config import AcceleratorConfig
from qcompile.hw.lines.config import LinesConfig
from sim_tests.compiler.made_layers import make_layer

SMALL = AcceleratorConfig(bank_words=256)


def step(source: str, output: str, words: tuple[int, int], *, residual: str | None = None) -> Layer:
    """A layer between tensors of some words: four channels, one row."""
    plain = make_layer(kind="dense", channels=4, out=4, size=(1, 1))
    return replace(
        plain,
        name=output,
        input=source,
        output=output,
        residual=residual,
        input_shape=(4, 1, words[0]),
        output_shape=(4, 1, words[1]),
    )


def alive(name: str, layers: Sequence[Layer], outputs: Sequence[str], *, queued: bool) -> range:
    """Indices of the layers during which a tensor's words must stay."""
    if queued and (name == "x" or name in outputs):
        return range(-1, len(layers) + 1)
    made = [index for index, layer in enumerate(layers) if layer.output == name] or [-1]
    read = [index for index, layer in enumerate(layers) if name in (layer.input, layer.residual)]
    end = len(layers) if name in outputs else max([*made, *read, 0])
    return range(made[0], end + 1)


def check(
    layers: Sequence[Layer],
    places: dict[str, Placement],
    outputs: Sequence[str],
    words: int,
    *,
    queued: bool = False,
) -> None:
    """Every layer reads and writes different banks and no live tensors overlap."""
    for layer in layers:
        assert places[layer.input].bank != places[layer.output].bank
    for place in places.values():
        assert 0 <= place.offset <= words - place.words
        assert place.address == place.bank * 16384 + place.offset
    for (a, place), (b, other) in combinations(places.items(), 2):
        if place.bank != other.bank:
            continue
        lives = [alive(name, layers, outputs, queued=queued) for name in (a, b)]
        together = max(lives[0].start, lives[1].start) < min(lives[0].stop, lives[1].stop)
        apart = (
            place.offset + place.words <= other.offset or other.offset + other.words <= place.offset
        )
        assert apart or not together, f"{a} and {b}"


@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_live_tensors_never_overlap_and_banks_alternate(data: st.DataObject) -> None:
    words = {"x": data.draw(st.integers(1, 40))}
    layers: list[Layer] = []
    for index in range(data.draw(st.integers(1, 9))):
        source = data.draw(st.sampled_from(sorted(words)))
        size = data.draw(st.integers(1, 40))
        alike = sorted(name for name, count in words.items() if count == size)
        residual = data.draw(st.sampled_from([None, *alike]))
        name = f"t{index}"
        layers.append(step(source, name, (words[source], size), residual=residual))
        words[name] = size
    made = [layer.output for layer in layers]
    extra = data.draw(st.sets(st.sampled_from(made)))
    outputs = sorted({made[-1], *extra})
    queued = data.draw(st.booleans())
    places = dict(allocate(layers, ["x"], outputs, 512, queued=queued))
    assert set(places) == {"x", *made}
    check(layers, places, outputs, 512, queued=queued)


def test_a_tensor_takes_the_place_of_one_that_nobody_needs_any_more() -> None:
    layers = [
        step("x", "a", (100, 200)),
        step("a", "b", (200, 200)),
        step("b", "c", (200, 200)),
        step("c", "d", (200, 100)),
    ]
    places = allocate(layers, ["x"], ["d"], SMALL.bank_words)
    assert {name: (place.bank, place.offset) for name, place in places.items()} == {
        "x": (0, 0),
        "a": (1, 0),
        "b": (0, 0),
        "c": (1, 0),
        "d": (0, 0),
    }


def test_channels_are_padded_to_words() -> None:
    layer = make_layer(kind="dense", channels=5, out=9, size=(3, 7))
    places = allocate([layer], ["x"], ["layer"], AcceleratorConfig().bank_words)
    assert (places["x"].words, places["layer"].words) == (2 * 21, 3 * 21)
    assert places["layer"].shape == (9, 3, 7)


def test_a_tensor_that_is_larger_than_a_bank_is_refused_with_its_size() -> None:
    message = (
        "'a' [4, 1, 257] does not fit the activation memory\n"
        "  needs 1,028 bytes in one bank\n"
        "  free in it beside the tensors alive at that time: 1,024 of 1,024 bytes\n"
        "  help: use a smaller input or fewer channels in the widest layers"
    )
    with pytest.raises(CapacityError, match=rf"^{re.escape(message)}$"):
        allocate([step("x", "a", (1, 257))], ["x"], ["a"], SMALL.bank_words)


def test_a_tensor_without_room_beside_the_others_is_refused_with_what_is_free() -> None:
    layers = [
        step("x", "a", (1, 100)),
        step("a", "b", (100, 200)),
        step("b", "c", (200, 100)),
        step("c", "d", (100, 90)),
        step("d", "e", (90, 100), residual="c"),
        step("e", "f", (100, 100), residual="a"),
    ]
    with pytest.raises(CapacityError) as raised:
        allocate(layers, ["x"], ["f"], 256)
    assert re.match(
        r"^'\w' \[4, 1, 100\] does not fit the activation memory\n"
        r"  needs 400 bytes in one bank\n"
        r"  free in it beside the tensors alive at that time: \d+ of 1,024 bytes\n"
        r"  help: use a smaller input or fewer channels in the widest layers$",
        str(raised.value),
    )


LINES = LinesMachine(LinesConfig(columns=4, lanes=1))


def test_a_sum_takes_the_place_of_an_operand_that_ends_there() -> None:
    layers = [
        step("x", "a", (99, 99)),
        step("a", "b", (99, 99)),
        step("b", "c", (99, 99), residual="a"),
        step("c", "d", (99, 99)),
        step("d", "e", (99, 99), residual="c"),
    ]
    places = allocate(layers, ["x"], ["e"], 100, LINES)
    assert places["c"] == places["a"]
    assert places["e"] == places["c"]
    assert words_needed(layers, ["x"], ["e"], LINES) == 99
    with pytest.raises(CapacityError):
        allocate(layers, ["x"], ["e"], 100)


def test_a_sum_takes_the_place_of_a_stored_operand_that_no_layer_read_before() -> None:
    stored = Stored(name="k", codes=np.zeros((4, 1, 99), np.int8))
    add = replace(step("a", "b", (99, 99), residual="k"), stored=(stored,))
    places = allocate([step("x", "a", (99, 99)), add], ["x"], ["b"], 200, LINES)
    assert places["b"] == places["k"]


def test_a_sum_spares_an_operand_that_is_needed_afterwards_or_of_another_shape() -> None:
    first = [step("x", "a", (99, 99)), step("a", "b", (99, 99))]
    add = step("b", "c", (99, 99), residual="a")
    behind = step("c", "d", (99, 99))
    part = replace(add, region=Region(shape=(4, 1, 99)))
    for layers, outputs in (
        ([*first, add, behind], ["a", "d"]),
        ([*first, add, behind, step("d", "e", (99, 99), residual="a")], ["e"]),
        ([*first, part, behind], ["d"]),
        ([*first, replace(add, residual_channel=4), behind], ["d"]),
    ):
        places = allocate(layers, ["x"], outputs, 300, LINES)
        assert places["c"].bank == places["a"].bank
        assert places["c"].offset != places["a"].offset
        assert words_needed(layers, ["x"], outputs, LINES) == 198


def test_where_inputs_queue_no_tensor_comes_where_the_host_writes_or_reads() -> None:
    stored = Stored(name="k", codes=np.zeros((4, 1, 99), np.int8))
    add = replace(step("a", "b", (99, 99), residual="k"), stored=(stored,))
    layers = [step("x", "a", (99, 99)), add, step("b", "c", (99, 99)), step("c", "d", (99, 99))]
    places = allocate(layers, ["x"], ["d"], 400, LINES, queued=True)
    shared = {name: place for name, place in places.items() if name not in ("x", "k", "d")}
    for name in ("x", "k", "d"):
        assert places[name] not in shared.values()
    assert len({places[name].offset for name in ("x", "k", "d", "b")}) == 4
    assert words_needed(layers, ["x"], ["d"], LINES, queued=True) == 4 * 99
    assert words_needed(layers, ["x"], ["d"], LINES) == 2 * 99
