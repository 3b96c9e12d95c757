"""Arrays of lines sized for a model and a device; what they take against measured parts."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from qcompile.compiler import ir, search
from qcompile.compiler.errors import CapacityError
from qcompile.compiler.lines import resources, sizing
from qcompile.compiler.lines.backend import compile_graph
from qcompile.compiler.lines.selftest import with_self_test
from qcompile.compiler.pipeline import load_model
from qcompile.hw.lines.config import DspStyle, LinesConfig
from qcompile.hw.lines.devices import DEVICES, LinesDevice
from qcompile.hw.lines.lanes import LineLanes
from qcompile.hw.lines.ram import LinesRam
from sim_tests.compiler.integer_graphs import IntegerGraph, model_of
from sim_tests.hw import xc7
from sim_tests.zoo import MUSTS, SHARED

NETWORKS = ("mlpt_ic_resnet8", "mlpt_kws_dscnn", "mlpt_vww_mbv1_025", "mlpt_ad_toycar")


@pytest.fixture(scope="module", params=NETWORKS)
def sizes(request: pytest.FixtureRequest) -> tuple[str, sizing.Sizes]:
    """A network's name, and its sizes."""
    path = SHARED / "models" / f"{request.param}.onnx"
    if not path.exists():
        pytest.skip(f"no {path.name} in the shared folder")
    return request.param, sizing.Sizes(load_model(path))


@pytest.mark.parametrize("device", DEVICES.values(), ids=list(DEVICES))
def test_best_candidate_within_budget(sizes: tuple[str, sizing.Sizes], device: LinesDevice) -> None:
    network, found = sizes
    if (network, device.name) not in MUSTS:
        with pytest.raises(CapacityError, match=f"no array of lines fits {device.name}"):
            found.best(device)
        return
    chosen = found.best(device)
    assert chosen.total_cycles <= MUSTS[network, device.name]
    assert (chosen.trial.depthwise or 1) >= search.FAIR_SHARE
    assert chosen.resources.luts <= 0.7 * device.luts
    assert chosen.resources.dsps <= 0.9 * device.dsps
    assert chosen.resources.block_rams <= 0.9 * device.block_rams
    fitting = [c for c in found.candidates(device) if sizing.fits(c.resources, device)]
    fewest = min(fitting, key=lambda c: c.total_cycles)
    if chosen.total_cycles > fewest.total_cycles:
        assert fewest.trial.depthwise is not None and chosen.trial.depthwise is not None
        assert fewest.trial.depthwise < search.FAIR_SHARE <= chosen.trial.depthwise
        assert chosen.total_cycles <= search.FAIR_PRICE * fewest.total_cycles


def test_an_estimate_is_the_cycle_models(sizes: tuple[str, sizing.Sizes]) -> None:
    chosen = sizes[1].best(DEVICES["xc7a100t"])
    cycles = {layer.name: layer.cycles for layer in chosen.running.cycles()}
    assert chosen.total_cycles == sum(cycles.values())
    layers = [x for x in chosen.compiled.layers if x.kind == "depthwise" and x.macs]
    assert (chosen.trial.depthwise is None) == (not layers)
    if layers:
        spent = sum(cycles[x.name] for x in layers)
        macs = sum(x.macs for x in layers)
        assert chosen.trial.depthwise == pytest.approx(macs / spent / chosen.config.macs_per_cycle)


def test_layers_are_cut_into_bands_where_block_ram_is_short() -> None:
    """96 channels of 60 x 60 pixels are 343 KB, and both sets are as large."""
    g = IntegerGraph(np.random.default_rng(7))
    x = g.conv(g.input(16, 60, 60), 96, (3, 3), pads=(1, 1, 1, 1))
    model = model_of(g.graph(g.conv(x, 16)))
    chosen = sizing.Sizes(model).best(DEVICES["xc7a100t"])
    assert any(layer.inner for layer in chosen.compiled.layers)
    assert sizing.fits(chosen.resources, DEVICES["xc7a100t"])
    places = chosen.compiled.places.values()
    assert max(place.offset + place.words for place in places) <= chosen.config.set_words
    with pytest.raises(CapacityError, match="no array of lines fits xc7a35t"):
        sizing.Sizes(model).best(DEVICES["xc7a35t"])


def test_the_self_test_fits_behind_the_model(sizes: tuple[str, sizing.Sizes]) -> None:
    _, found = sizes
    chosen = found.best(DEVICES["xc7a100t"])
    graph, config = chosen.compiled.graph, chosen.config
    compiled = compile_graph(graph, config)
    assert compiled.program.words == chosen.compiled.program.words
    program, _ = with_self_test(compiled)
    assert len(program.words) + 8 == chosen.program_words
    assert len(program.weights) <= config.lines * config.weight_rows


def test_larger_devices_say_what_they_would_give(sizes: tuple[str, sizing.Sizes]) -> None:
    _, found = sizes
    larger = found.larger(DEVICES["xc7a35t"])
    assert list(larger) == ["xc7z020", "xc7a100t"]
    for name, candidate in larger.items():
        assert candidate.total_cycles == found.best(DEVICES[name]).total_cycles
    assert found.larger(DEVICES["xc7a100t"]) == {}


def fully_connected(inputs: int, outputs: int, image: tuple[int, int] = (1, 1)) -> ir.Model:
    """One layer `y1`, 1 x 1."""
    g = IntegerGraph(np.random.default_rng(3))
    return model_of(g.graph(g.conv(g.input(inputs, *image), outputs, (1, 1))))


def test_weights_that_come_once_for_two_layers_count_once() -> None:
    g = IntegerGraph(np.random.default_rng(5))
    graph = g.graph(g.conv(g.conv(g.input(16, 2, 2), 16), 16))
    first, second = graph.ops
    assert isinstance(first, ir.Conv) and isinstance(second, ir.Conv)
    shared = replace(graph, ops=(first, replace(second, weight=first.weight)))
    for streams in (False, True):
        config = LinesConfig(lines=1, lanes=1, streams=streams)
        apart, once = (compile_graph(x, config).weight_bytes for x in (graph, shared))
        assert apart == 2 * 16 * 16
        # In a memory that stands each layer has its own.
        assert once == (16 * 16 if streams else apart)


def test_a_layer_that_is_shorter_than_its_latency_says_so() -> None:
    device = DEVICES["xc7a35t"]
    small, large = (sizing.Sizes(fully_connected(16, 16, image)) for image in ((1, 1), (40, 40)))
    assert list(small.best(device).limits().values()) == ["latency"]
    assert list(large.best(device).limits().values()) != ["latency"]


def test_size_is_the_one_asked_for() -> None:
    model = fully_connected(32, 32)
    chosen = sizing.size_for(model, DEVICES["xc7a100t"], lines=3, lanes=2)
    assert (chosen.config.lines, chosen.config.lanes) == (3, 2)
    with pytest.raises(CapacityError, match="an array of lines has 16 or 8 columns, not 4"):
        sizing.size_for(model, DEVICES["xc7a100t"], columns=4)
    narrow = sizing.size_for(model, DEVICES["xc7a100t"], lines=3, lanes=2, columns=8)
    assert narrow.config.columns == 8 and narrow.config.pairs == chosen.config.pairs // 2
    assert 0.5 < narrow.resources.luts / chosen.resources.luts < 1
    assert narrow.total_cycles > chosen.total_cycles


def test_pairs_in_logic_take_luts_and_no_dsp() -> None:
    model, device = fully_connected(32, 32), DEVICES["xc7a35t"]
    found = {
        style: sizing.Sizes(model, lines=1, lanes=1, dsp=style).best(device)
        for style in get_args(DspStyle)
    }
    assert {style: chosen.config.dsp for style, chosen in found.items()} == {
        style: style for style in get_args(DspStyle)
    }
    pairs = found["none"].config.pairs
    in_dsp = {style: chosen.config.pairs_in_dsp for style, chosen in found.items()}
    assert in_dsp == {"instance": pairs, "inferred": pairs, "none": 0}
    inferred, none = found["inferred"].resources, found["none"].resources
    assert none.dsps == inferred.dsps - pairs and none.luts > inferred.luts + 50 * pairs
    largest = sizing.Sizes(model, dsp="none").best(device)
    assert largest.resources.luts <= device.lut_budget
    assert largest.total_cycles >= sizing.Sizes(model).best(device).total_cycles


def test_refusal_names_weights() -> None:
    with pytest.raises(CapacityError) as raised:
        sizing.size_for(fully_connected(640, 640), DEVICES["xc7a35t"])
    text = str(raised.value)
    assert "weights take 95 of them: 409,600 bytes, 409,600 of them in 'y1'" in text.split("\n")[2]
    assert text.endswith("help: use xc7z020")


def test_refusal_names_activations() -> None:
    with pytest.raises(CapacityError) as raised:
        sizing.size_for(fully_connected(16, 16, (150, 151)), DEVICES["xc7a35t"])
    line = str(raised.value).split("\n")[2]
    assert re.search(r"activations take [\d.]+ of them: the largest is '(x0|y1)'", line)
    assert line.endswith("[16, 150, 151], 362,400 bytes")


RAMS = [(128, 32), (128, 64), (128, 65), (128, 512), (128, 528), (128, 1536), (128, 1024 + 40)]
RAMS += [(64, 1100)]
LARGE_RAMS = [(128, 2470), (64, 2500)]
"""They take Yosys half a minute together."""


class OneRam(wiring.Component):  # type: ignore[type-arg]  # generic in its stub only
    """A `LinesRam` with ports."""

    write: Any
    read: Any
    word: Signal

    def __init__(self, width: int, depth: int) -> None:
        self.ram = LinesRam(width, depth)
        bits = len(self.ram.reader.addr)
        write = {"en": Out(1), "addr": Out(bits), "data": Out(width)}
        read = {"en": Out(1), "addr": Out(bits)}
        super().__init__(
            {
                "write": In(wiring.Signature(write)),
                "read": In(wiring.Signature(read)),
                "word": Out(width),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.ram = ram = self.ram
        for inner, outer in ((ram.writer, self.write), (ram.reader, self.read)):
            m.d.comb += [inner.en.eq(outer.en), inner.addr.eq(outer.addr)]
        m.d.comb += [ram.writer.data.eq(self.write.data), self.word.eq(ram.reader.data)]
        return m


@pytest.mark.cosim
@pytest.mark.parametrize(
    ("bits", "depth"), [*RAMS, *(pytest.param(*one, marks=pytest.mark.full) for one in LARGE_RAMS)]
)
def test_memories_are_what_yosys_makes(bits: int, depth: int) -> None:
    measured = xc7.synthesize(OneRam(bits, depth))
    assert resources.memory_blocks(bits, depth) == measured.block_rams
    assert resources.memory_luts(bits, depth) == pytest.approx(measured.luts, rel=0.2, abs=8)


@pytest.mark.parametrize("depth", [16, 33, 500, 520, 577, 1645, 2047])
def test_room_comes_for_nothing(depth: int) -> None:
    room = resources.roomy(depth)
    assert room >= depth
    for cost in (resources.memory_blocks, resources.memory_luts):
        assert cost(128, room) == cost(128, depth)


@pytest.mark.parametrize(("lines", "memory", "weights"), [(2, 773, 258), (8, 3650, 1544)])
def test_memory_luts_are_measured_ones(lines: int, memory: int, weights: int) -> None:
    config = LinesConfig(lines=lines)
    assert resources.activation_luts(config) == pytest.approx(memory, rel=0.15)
    assert resources.weight_luts(config) == pytest.approx(weights, rel=0.15)


@pytest.mark.full
@pytest.mark.cosim
def test_lanes_agree_with_synthesis() -> None:
    measured = xc7.synthesize(LineLanes(LinesConfig(lanes=2)))
    luts = resources.LANE_BASE + 2 * resources.LANE
    assert luts == pytest.approx(measured.luts, rel=0.15)
    assert measured.multipliers == 4
