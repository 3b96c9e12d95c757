"""report.json's fields and report.txt's lines, on figures that can be worked out by hand."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from qcompile.compiler.backend import accelerator_map, compile_model
from qcompile.compiler.flow import Options
from qcompile.compiler.flows import flow_of
from qcompile.compiler.lines.paths import TimingPath
from qcompile.compiler.pipeline import load_model
from qcompile.compiler.report import (
    Figures,
    LayerFigures,
    Resource,
    to_record,
)
from qcompile.compiler.report_text import shorten, table, to_text
from qcompile.compiler.small_flow import figures
from qcompile.compiler.throughput import Queued
from qcompile.hw.boards import BOARDS
from sim_tests.compiler.networks import Network, random_conv

CODES = (0.02, -3, "int8")

FIGURES = Figures(
    model="tiny",
    sha256="ab" * 32,
    weights=300,
    family="ice40",
    device="iCE40UP5K",
    board="icebreaker",
    rows=4,
    columns=4,
    requant="exact",
    layers=(
        LayerFigures(name="conv", op="Conv", macs=16_000, cycles=1_250),
        LayerFigures(name="pool", op="AveragePool", macs=0, cycles=750),
    ),
    cycles=2_000,
    memory={"activation_words": 1_234, "activation_words_total": 32_768},
    resources={"lut": Resource(used=4_000, total=5_280), "dsp": Resource(used=8, total=8)},
    fmax_mhz=25.5,
    clock_mhz=24.0,
    link_bytes=150,
    link_baud=3_000_000,
    bitstream="top.bin",
)


def test_record_has_the_agreed_fields_and_figures() -> None:
    record = to_record(FIGURES)
    assert list(record) == [
        *("model", "target", "array", "requant", "layers", "cycles", "utilization", "memory"),
        *("resources", "fmax_mhz", "clock_mhz", "latency_ms", "inferences_per_second"),
        *("inferences_per_second_with_link", "bitstream"),
    ]
    assert record["model"] == {
        "name": "tiny",
        "sha256": "ab" * 32,
        "macs": 16_000,
        "weights": 300,
    }
    assert record["target"] == {"family": "ice40", "device": "iCE40UP5K", "board": "icebreaker"}
    assert record["array"] == {"rows": 4, "columns": 4, "macs_per_cycle": 16}
    assert record["layers"][0] == {
        "name": "conv",
        "op": "Conv",
        "macs": 16_000,
        "cycles": 1_250,
        "utilization": 0.8,  # 16,000 / (1,250 * 16)
    }
    assert record["utilization"] == 0.5
    assert record["resources"]["lut"] == {"used": 4_000, "total": 5_280}
    assert record["latency_ms"] == 0.0833  # 2,000 cycles at 24 MHz
    assert record["inferences_per_second"] == 12_000
    # 150 bytes of 10 bits at 3 Mbaud are 0.5 ms: 1 / (0.08333 ms + 0.5 ms)
    assert record["inferences_per_second_with_link"] == 1714.29
    json.dumps(record, allow_nan=False)


def test_without_place_and_route_resources_and_fmax_are_null() -> None:
    record = to_record(replace(FIGURES, resources=None, fmax_mhz=None, bitstream=None))
    assert (record["resources"], record["fmax_mhz"], record["bitstream"]) == (None, None, None)
    text = to_text(record)
    assert "24.00 MHz, not placed and routed" in text
    assert "bitstream       none" in text


def test_text_shows_every_figure() -> None:
    assert to_text(to_record(FIGURES)).splitlines() == [
        "model           tiny, 16,000 MACs, 300 weights",
        "target          ice40 iCE40UP5K on icebreaker",
        "array           4 x 4, 16 MACs a cycle",
        "requantization  exact",
        "cycles          2,000 predicted, 50.0% of the array",
        "clock           24.00 MHz, 25.50 MHz reached",
        "latency         0.08 ms",
        "inferences      12,000.0 a second, 1,714.3 with the host link",
        "bitstream       top.bin",
        "",
        "layer  op             MACs  cycles  array",
        "-----  -----------  ------  ------  -----",
        "conv   Conv         16,000   1,250  80.0%",
        "pool   AveragePool       0     750   0.0%",
        "",
        "memory: activation words        1,234",
        "memory: activation words total  32,768",
        "lut                             4,000 of 5,280 (75.8%)",
        "dsp                             8 of 8 (100.0%)",
    ]


def test_long_names_of_fused_tensors_are_shortened() -> None:
    assert shorten("a/b;c/d;model/dense/BiasAdd") == "model/dense/BiasAdd"
    assert shorten("a" * 20 + "b" * 30) == "a" * 18 + "..." + "b" * 19
    assert shorten("a" * 40) == "a" * 40


def test_an_empty_table_is_its_head() -> None:
    assert table(("a", "bc"), []) == ["a  bc", "-  --"]


def test_report_calls_layers_as_sim_does(tmp_path: Path, rng: np.random.Generator) -> None:
    """A pool is several layers: each has a name of its own in both, or no prediction is found."""
    network = Network()
    x = network.quantize(network.input("x", "float32", [1, 4, 8, 8]), CODES)
    a = random_conv(network, rng, x, (4, 4, 3, 3), (CODES, CODES))
    pooled = network.node("MaxPool", network.dequantize(a, CODES), kernel_shape=[3, 3])
    network.output(network.dequantize(network.quantize(pooled, CODES), CODES), "float32")
    network.save(tmp_path / "pool.onnx")
    model = load_model(tmp_path / "pool.onnx", requant="exact")
    board = BOARDS["icebreaker"]
    compiled = compile_model(model, requant="exact", board=board)
    record = to_record(figures(compiled, board, None, {}))
    names = [layer["name"] for layer in record["layers"]]
    assert names == accelerator_map(compiled)["program_layers"]
    assert len(set(names)) == len(names) > 4


def test_a_layer_of_one_pixel_waits_for_its_weights_and_a_larger_device_is_named(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    network = Network()
    x = network.quantize(network.input("x", "float32", [1, 64, 1, 1]), CODES)
    for _ in range(3):
        x = random_conv(network, rng, x, (64, 64, 1, 1), (CODES, CODES))
    network.output(network.dequantize(x, CODES), "float32")
    network.save(tmp_path / "vector.onnx")
    model = load_model(tmp_path / "vector.onnx", requant="exact")
    figures_of = {
        board: flow_of(BOARDS[board]).check(model, Options()).figures
        for board in ("ice40_hx8k_b_evn", "icebreaker")
    }
    small, large = figures_of.values()
    assert [layer.limit for layer in small.layers] == ["weight bandwidth"] * 3
    assert (small.larger, large.larger) == ({"up5k": large.cycles}, {})


def test_counts_stand_beside_what_an_array_may_take_and_paths_below() -> None:
    path = TimingPath(start="engine.count[3]", end="engine.left[0]", luts=4, carries=1, dsps=0)
    counted = replace(
        FIGURES,
        machine={"lines": "8"},
        resources={
            "lut": Resource(used=50, total=100, budget=70),
            "dsp": Resource(used=95, total=100, budget=90),
        },
        resources_from="Yosys",
        paths=(path,),
    )
    record = to_record(counted)
    assert record["resources"]["lut"] == {"used": 50, "total": 100, "budget": 70}
    assert record["paths"] == [
        {
            **{"levels": 5, "start": "engine.count[3]", "end": "engine.left[0]"},
            **{"luts": 4, "carries": 1, "dsps": 0},
        }
    ]
    text = to_text(record)
    assert "50 of 100 (50.0%, within the 70 that an array may take)" in text
    assert "95 of 100 (95.0%, beyond the 90 that an array may take)" in text
    assert text.splitlines()[-1].split() == ["engine.count[3]", "engine.left[0]", *"5410"]


def test_what_is_no_faster_is_not_praised() -> None:
    machine = {"lines": "1 of 4 rows"}
    larger = {"large": 1_000, "same": 1_999}
    text = to_text(to_record(replace(FIGURES, machine=machine, larger=larger)))
    assert "large: 1,000 cycles (2.00 times as fast)\n" in text
    text = to_text(to_record(replace(FIGURES, machine=machine, larger={"same": 1_999})))
    assert re.search(r"larger devices +none is faster with this model and these options\n", text)


def test_inputs_behind_one_another_on_a_serial_line_repeat_no_rate() -> None:
    queued = Queued(beats_in=3, beats_out=1, cycles=None, note="the line sets the pace")
    text = to_text(to_record(replace(FIGURES, queued=queued)))
    assert re.search(r"inputs queued +no faster: the line sets the pace\n", text)
    faster = replace(queued, cycles=1_000, note="they overlap")
    text = to_text(to_record(replace(FIGURES, queued=faster)))
    assert re.search(r"inputs queued +24,000.0 a second: they overlap\n", text)
