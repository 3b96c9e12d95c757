"""codebooks: which weights are packed, numbers of codebooks, and when a machine has any."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qcompile.compiler import ir
from qcompile.compiler.backend import Compiled, compile_model, memory_usage
from qcompile.compiler.errors import CapacityError
from qcompile.compiler.memory_sizes import block_rams, codebooks_fit, sizes
from qcompile.compiler.passes.codebooks import Codebooks, with_codebook
from qcompile.compiler.passes.lower import lower
from qcompile.compiler.passes.tile import plan_layer
from qcompile.compiler.pipeline import load_model
from qcompile.compiler.plan import Plan
from qcompile.compiler.report import to_record
from qcompile.compiler.report_text import to_text
from qcompile.compiler.small_flow import figures
from qcompile.hw.boards.icebreaker import ICEBREAKER
from qcompile.hw.config import ACC_WIDTHS, AcceleratorConfig
from qcompile.hw.devices import HX8K, UP5K
from qcompile.hw.program import CODEBOOKS, PacketKind
from qcompile.hw.sequencer import LAYER_SLOTS
from sim_tests.clustering import cluster, cluster_model
from sim_tests.compiler.integer_graphs import IntegerGraph, model_of

CONFIG = AcceleratorConfig(codebook=True)


def connected(rng: np.random.Generator, weights: np.ndarray) -> Plan:
    """The plain plan of a fully connected layer with these weights [out, in]."""
    g = IntegerGraph(rng)
    graph = g.graph(g.conv(g.input(weights.shape[1]), weights.shape[0]))
    (op,) = graph.ops
    assert isinstance(op, ir.Conv)
    changed = replace(op, weight=weights.reshape(*weights.shape, 1, 1).astype(np.int16))
    (layer,) = lower(replace(graph, ops=(changed,)), "exact")
    return plan_layer(layer, AcceleratorConfig())


def test_up_to_16_codes_are_packed_and_padding_counts(rng: np.random.Generator) -> None:
    codes = np.array([-128, -9, -8, -7, -3, -2, -1, 0, 1, 2, 3, 7, 8, 9, 100, 127])
    weights = rng.permutation(np.resize(codes, 8 * 40)).reshape(8, 40)
    packed = with_codebook(connected(rng, weights))
    assert packed.codebook is not None and packed.codebook.tolist() == codes.tolist()
    assert (packed.word_parts, packed.stream_parts) == (1, 2 * 40)
    weights[0, 0] = 5
    assert with_codebook(connected(rng, weights)).codebook is None
    # 16 codes without 0 are 17 where zeros fill a word up.
    nonzero = np.resize(np.delete(np.arange(-8, 9), 8), (8, 40))
    assert with_codebook(connected(rng, nonzero)).codebook is not None
    assert with_codebook(connected(rng, nonzero[:7])).codebook is None


def test_what_would_be_longer_packed_is_not(rng: np.random.Generator) -> None:
    # Eight weight words as indices save as many stream words; a codebook of 7 codes takes 8.
    few = np.resize(np.arange(-3, 4), (8, 4))
    assert with_codebook(connected(rng, few)).codebook is None
    few[few == 3] = 0
    assert with_codebook(connected(rng, few)).codebook is not None


def test_numbers_are_reused_only_when_no_layer_can_need_them(rng: np.random.Generator) -> None:
    codebooks = Codebooks()
    held: dict[int, bytes] = {}  # what the hardware has by number
    last_use: dict[int, int] = {}
    sent = 0
    for layer in range(400):
        codes = np.array([rng.integers(0, 60) - 30], np.int8)
        number, packet = codebooks.use(codes)
        if packet:
            sent += 1
            assert packet == [0x9000, number << 8 | int(codes[0]) & 0xFF]
            # All but the last LAYER_SLOTS layers have ended when the stream is here.
            assert layer - last_use.get(number, -CODEBOOKS) > LAYER_SLOTS + 1
            held[number] = codes.tobytes()
        assert held[number] == codes.tobytes() and number < CODEBOOKS
        last_use[number] = layer
    assert 60 <= sent < 300


def test_packed_groups_may_be_twice_as_long(rng: np.random.Generator) -> None:
    def plan(channels: int, config: AcceleratorConfig) -> Plan:
        g = IntegerGraph(rng)
        y = g.conv(g.input(channels, 4, 8), 4, (3, 3), pads=(1, 1, 1, 1), levels=16)
        (layer,) = lower(g.graph(y), "exact")
        return plan_layer(layer, config)

    # 1,021 words of 32 bits, so 2,042 packed ones: 9 taps of 226 channels, in words of four.
    assert plan(224, CONFIG).weights.shape[1] == 9 * 224
    with pytest.raises(CapacityError, match=r"2,052 weight words .* do not fit the weight FIFO"):
        plan(228, CONFIG)
    with pytest.raises(CapacityError, match=r"2,016 weight words .* do not fit the weight FIFO"):
        plan(224, replace(CONFIG, codebook=False))


def machine_of(rng: np.random.Generator, levels: int, size: int = 1) -> Compiled:
    """Two layers of many weights on UP5K, each used for so many pixels."""
    g = IntegerGraph(rng)
    x = g.conv(g.input(64, size, size), 64, levels=levels)
    return compile_model(
        model_of(g.graph(g.conv(x, 64, levels=levels))), board=ICEBREAKER, requant="exact"
    )


def test_codebooks_are_built_where_they_save_cycles(rng: np.random.Generator) -> None:
    packed, plain = machine_of(rng, 16), machine_of(rng, 40)
    assert (packed.config.codebook, plain.config.codebook) == (True, False)
    assert packed.total_cycles < 0.6 * plain.total_cycles
    assert not machine_of(rng, 16, 20).config.codebook  # bound by the array
    assert plain.config.id == AcceleratorConfig(acc_width=plain.config.acc_width).id


def test_a_layer_that_fits_packed_alone_gets_codebooks(rng: np.random.Generator) -> None:
    g = IntegerGraph(rng)
    y = g.conv(g.input(200, 30, 9), 4, (3, 3), levels=4)
    compiled = compile_model(model_of(g.graph(y)), board=ICEBREAKER, requant="exact")
    assert compiled.config.codebook
    assert memory_usage(compiled)["weight_words_of_largest_group"] == 1800


def test_weights_that_a_layer_makes_stay_plain(rng: np.random.Generator) -> None:
    g = IntegerGraph(rng)
    x = g.conv(g.input(8, 5, 5), 8, levels=4)
    gate = g.conv(g.pool(x, (5, 5)), 8, levels=4)
    codes = np.arange(-128, 128)
    table = np.clip(np.rint(np.outer(codes, codes) * 0.01), -128, 127).astype(np.int8)
    layers = lower(g.graph(g.combine(x, gate, table)), "exact")
    made = [plan_layer(layer, CONFIG) for layer in layers if layer.weight_source is not None]
    assert made and all(plan.codebook is None for plan in made)


@pytest.mark.parametrize("acc_width", ACC_WIDTHS)
@pytest.mark.parametrize("adder", [True, False])
def test_the_weight_fifo_gives_way_to_codebooks(acc_width: int, adder: bool) -> None:
    wanted = replace(UP5K.config, acc_width=acc_width, adder=adder, codebook=True)
    (config,) = sizes(UP5K, wanted)
    assert block_rams(wanted) == block_rams(replace(wanted, codebook=False)) + 4
    assert block_rams(config) <= UP5K.block_rams
    assert (config.weight_depth == 1024) == (block_rams(wanted) <= UP5K.block_rams)
    assert all(
        block_rams(c) <= HX8K.block_rams for c in sizes(HX8K, replace(wanted, vendor="ice40hx"))
    )


def test_the_largest_machines_have_no_room_for_codebooks() -> None:
    # Placed: 4,487 of 5,280 cells; and nextpnr refuses 5,569 (docs/budget.md).
    assert codebooks_fit(replace(CONFIG, acc_width=20), UP5K)
    assert not codebooks_fit(replace(CONFIG, acc_width=32, max_shift=55), UP5K)
    assert codebooks_fit(replace(CONFIG, acc_width=32, max_shift=55), HX8K)


def test_clustering_keeps_zero_and_lessens_the_error(rng: np.random.Generator) -> None:
    weights = np.clip(rng.normal(0, 30, (64, 64)), -128, 127).astype(np.int8)
    errors = []
    for levels in (2, 4, 16):
        clustered = cluster(weights, levels)
        assert len(np.unique(clustered)) <= levels and 0 in clustered
        errors.append(float(np.square(clustered.astype(int) - weights).mean()))
    assert errors[0] > errors[1] > errors[2] > 0
    few = np.resize(np.array([-5, 0, 9], np.int8), (6, 6))
    assert (cluster(few, 16) == few).all()


@pytest.fixture(scope="module")
def anomaly_detector(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network of anomaly detection with 16 weights in each layer."""
    target = tmp_path_factory.mktemp("clustered") / "ad_16.onnx"
    cluster_model(shared / "models" / "mlpt_ad_toycar.onnx", target, 16)
    return target


def test_anomaly_detection_takes_little_more_than_half_the_cycles(
    shared: Path, anomaly_detector: Path
) -> None:
    plain, packed = (
        compile_model(load_model(path), board=ICEBREAKER, requant="exact")
        for path in (shared / "models" / "mlpt_ad_toycar.onnx", anomaly_detector)
    )
    assert packed.total_cycles <= 0.55 * plain.total_cycles
    kinds = [kind for kind, _, _ in packed.program.packets()]
    assert kinds.count(PacketKind.CODEBOOK) == 10
    record = to_record(figures(packed, ICEBREAKER, None, {}))
    assert [layer["weight_bits"] for layer in record["layers"]] == [4] * 10
    assert {layer["limit"] for layer in record["layers"]} == {"weight bandwidth"}
    text = to_text(record)
    assert "weights         4-bit indices in 10 of 10 layers" in text
    (line,) = (line for line in text.splitlines() if line.startswith("Identity "))
    assert line.split()[-3:] == ["bits", "weight", "bandwidth"]
    assert (
        "bits" not in to_text(to_record(figures(plain, ICEBREAKER, None, {}))).split("layer  ")[1]
    )
