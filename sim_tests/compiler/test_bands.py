"""bands: what is cut, that it fits and stays golden, and the refusals."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from qcompile.compiler.backend import accelerator_map, compile_model, outputs_of
from qcompile.compiler.errors import CapacityError
from qcompile.compiler.golden.interpreter import run_graph
from qcompile.compiler.golden_vectors import golden_vectors
from qcompile.compiler.layers import Layer
from qcompile.compiler.passes.allocate import allocate
from qcompile.compiler.passes.bands import cut_bands
from qcompile.compiler.passes.lower import lower
from qcompile.compiler.small_flow import figures
from qcompile.hw.boards.board import Board
from qcompile.hw.boards.icebreaker import ICEBREAKER
from qcompile.hw.config import AcceleratorConfig
from sim_tests.compiler.integer_graphs import IntegerGraph, model_of
from sim_tests.compiler.layer_runs import run_layers
from sim_tests.compiler.test_allocate import check as check_places


def board(bank_words: int) -> Board:
    """A board whose device has banks of so many words."""
    config = replace(ICEBREAKER.device.config, bank_words=bank_words)
    return replace(ICEBREAKER, device=replace(ICEBREAKER.device, config=config))


def block(g: IntegerGraph, x: str, expand: int, out: int, stride: int) -> str:
    """MobileNetV2's: expand, depthwise, project, and a sum where the shapes allow it."""
    pads = (1, 1, 1, 1) if stride == 1 else (0, 0, 1, 1)
    y = g.conv(g.conv(x, expand), 0, (3, 3), strides=(stride, stride), pads=pads)
    y = g.conv(y, out)
    return g.add(y, x) if stride == 1 and out == g.values[x].shape[1] else y


def mobilenet_v2(g: IntegerGraph, size: int) -> str:
    """The stem and three blocks; the expanded tensor has 48 channels of size / 2 squared pixels."""
    x = g.conv(g.input(3, size, size), 8, (3, 3), strides=(2, 2), pads=(0, 0, 1, 1))
    x = g.conv(g.conv(x, 0, (3, 3), pads=(1, 1, 1, 1)), 8)
    for out, stride in ((8, 2), (8, 1), (16, 2)):
        x = block(g, x, 48, out, stride)
    return x


def large_kernels(g: IntegerGraph) -> str:
    """Odd sizes, 5 x 5 windows, asymmetric pads, dilations, and a sum around them."""
    x = g.conv(g.input(3, 23, 17), 4, (3, 3), strides=(1, 1), pads=(1, 0, 1, 2))
    y = g.conv(g.conv(x, 24), 0, (5, 5), pads=(3, 2, 1, 2))
    y = g.add(g.conv(y, 4), x)
    z = g.conv(g.conv(y, 28), 0, (3, 2), dilations=(2, 1), strides=(2, 2), pads=(2, 0, 1, 1))
    return g.conv(z, 8)


def cut(g: IntegerGraph, output: str, config: AcceleratorConfig) -> list[tuple[Layer, ...]]:
    """The ways to fit."""
    graph = g.graph(output)
    return cut_bands(lower(graph), graph.inputs, outputs_of(graph), config.bank_words)


@pytest.mark.parametrize(
    ("make", "bank_words"),
    [
        (large_kernels, 1024),
        (lambda g: mobilenet_v2(g, 32), 1024),
        (lambda g: mobilenet_v2(g, 22), 512),
    ],
    ids=["large kernels", "MobileNetV2 of 32", "MobileNetV2 of 22"],
)
def test_every_way_fits_and_computes_golden(
    rng: np.random.Generator, make: Callable[[IntegerGraph], str], bank_words: int
) -> None:
    g = IntegerGraph(rng)
    output = make(g)
    config = AcceleratorConfig(bank_words=bank_words)
    ways = cut(g, output, config)
    codes = g.codes()
    expected = run_graph(g.graph(output), codes)[output][0]
    whole = lower(g.graph(output))
    for layers in ways:
        assert any(layer.band for layer in layers)
        places = dict(allocate(layers, g.inputs, [output], config.bank_words))
        check_places(layers, places, [output], bank_words)
        found = {name: array[0] for name, array in codes.items()}
        run_layers(layers, found)
        np.testing.assert_array_equal(found[output].reshape(expected.shape), expected)
        assert sum(layer.macs for layer in layers) == sum(layer.macs for layer in whole)


def test_layers_that_fit_are_left_alone(rng: np.random.Generator) -> None:
    g = IntegerGraph(rng)
    output = large_kernels(g)
    layers = lower(g.graph(output))
    assert cut_bands(layers, g.inputs, [output], AcceleratorConfig().bank_words) == [layers]


@pytest.mark.parametrize("size", [96, 128])
def test_an_expanded_tensor_beyond_a_bank_is_cut_and_nothing_else(
    rng: np.random.Generator, size: int
) -> None:
    g = IntegerGraph(rng)
    output = mobilenet_v2(g, size)
    layers = lower(g.graph(output))
    # 48 channels of (size / 2) ** 2 pixels are 27,648 or 49,152 words; a bank has 16,384.
    compiled = compile_model(model_of(g.graph(output)), board=ICEBREAKER, requant="exact")
    once = {layer.name for layer in compiled.layers if ":band" not in layer.name}
    cut_layers = [layer.name for layer in layers if layer.name not in once]
    assert layers[3].name in cut_layers and layers[4].name in cut_layers
    assert len(cut_layers) <= 3
    # Rows that are computed twice and weights that are sent again are a small part.
    added = [cycles.cycles for cycles in compiled.cycles if ":band" in cycles.name]
    plain = sum(layer.macs for layer in layers if layer.name in cut_layers)
    assert sum(added) < 2.6 * plain / 16 + 9 * sum(layers[4].output_shape[1:]) * 48


def test_figures_map_and_vectors_speak_of_whole_tensors_only(rng: np.random.Generator) -> None:
    g = IntegerGraph(rng)
    output = large_kernels(g)
    model = model_of(g.graph(output))
    whole = compile_model(model, board=ICEBREAKER, requant="exact")
    small = compile_model(model, board=board(1024), requant="exact")
    known = [entry["name"] for entry in entries(accelerator_map(small))]
    tensors = {layer.output for layer in small.layers}
    assert output in known and set(known) <= tensors & set(g.values)
    assert set(known) < {entry["name"] for entry in entries(accelerator_map(whole))}
    done = [entry["done"] for entry in entries(accelerator_map(small))]
    last: dict[object, int] = {layer.output: index for index, layer in enumerate(small.layers, 1)}
    assert done == [last[name] for name in known]
    reports = [figures(compiled, ICEBREAKER, None, {}) for compiled in (whole, small)]
    assert reports[0].weights == reports[1].weights
    assert reports[0].macs == reports[1].macs
    assert reports[1].cycles == sum(layer.cycles for layer in reports[1].layers)
    assert len({layer.name for layer in reports[1].layers}) == len(small.layers)
    assert golden_vectors(small.model.graph, small.layers, small.places)


def entries(memory: dict[str, object]) -> list[dict[str, object]]:
    """The layers of an accelerator's map."""
    layers = memory["layers"]
    assert isinstance(layers, list)
    return layers


def test_bands_never_take_a_name_of_the_model(rng: np.random.Generator) -> None:
    g = IntegerGraph(rng)
    output = large_kernels(g)
    layers = lower(g.graph(output))
    names = [layer.output for layer in layers]
    renamed = tuple(
        replace(layer, input=f"{layer.input}:band0" if layer.input == names[1] else layer.input)
        for layer in layers
    )
    renamed = tuple(
        replace(layer, output=f"{layer.output}:band0") if layer.output == names[1] else layer
        for layer in renamed
    )
    (way, *_) = cut_bands(renamed, g.inputs, [output], 1024)
    assert any(layer.name.endswith(":band_0") for layer in way)
    assert not any(layer.name.endswith(":band0") for layer in way)


def wide_input(g: IntegerGraph) -> str:
    """An input of 5,120 bytes."""
    return g.conv(g.conv(g.input(3, 40, 32), 8, strides=(2, 2)), 4, strides=(2, 2))


def wide_output(g: IntegerGraph) -> str:
    """An output of 5,760 bytes behind one row of pixels."""
    return g.conv(g.conv(g.input(3, 12, 10), 8), 48)


def one_window(g: IntegerGraph) -> str:
    """A window of all rows behind a tensor of 5,760 bytes: a band would need all of them."""
    return g.conv(g.conv(g.input(3, 12, 10), 48), 8, (12, 10))


MAKERS: dict[str, tuple[Callable[[IntegerGraph], str], str]] = {
    "input": (
        wide_input,
        (
            "'x0' [3, 40, 32] does not fit the activation memory\n"
            "  needs 5,120 bytes in one bank\n"
            "  free in it beside the tensors alive at that time: 4,096 of 4,096 bytes\n"
            "  help: use a smaller input or fewer channels in the widest layers"
        ),
    ),
    "output": (
        wide_output,
        (
            "'y2' [48, 12, 10] does not fit the activation memory\n"
            "  needs 5,760 bytes in one bank\n"
            "  free in it beside the tensors alive at that time: 4,096 of 4,096 bytes\n"
            "  help: use a smaller input or fewer channels in the widest layers"
        ),
    ),
    "window": (
        one_window,
        (
            "'y1' [48, 12, 10] does not fit the activation memory\n"
            "  needs 5,760 bytes in one bank\n"
            "  free in it beside the tensors alive at that time: 4,096 of 4,096 bytes\n"
            "  bands of rows through up to 24 layers do not fit either\n"
            "  help: use a smaller input or fewer channels in the widest layers"
        ),
    ),
}


@pytest.mark.parametrize("name", MAKERS)
def test_what_bands_do_not_help_is_refused(rng: np.random.Generator, name: str) -> None:
    make, message = MAKERS[name]
    g = IntegerGraph(rng)
    output = make(g)
    with pytest.raises(CapacityError, match=rf"^{re.escape(message)}$"):
        cut(g, output, AcceleratorConfig(bank_words=1024))
