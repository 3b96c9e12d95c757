"""Random graphs of every kind of layer through the accelerator's Verilog, against golden.

Flash, flash reader and core are those of `qcompile sim`. All graphs run in one simulation, one
after the other, so each finds the memory as the one before left it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from qcompile.compiler import ir
from qcompile.hw.boards import BOARDS
from qcompile.hw.boards.upduino_v3 import UPDUINO_V3
from qcompile.hw.config import AcceleratorConfig
from qcompile.runtime.protocol import CoreError, State
from sim_tests.compiler.integer_graphs import IntegerGraph
from sim_tests.cosim.accelerator_runs import Machine, Run, Step, Subject, compile_graph

pytestmark = pytest.mark.cosim

CONFIG = AcceleratorConfig(acc_width=28, vendor="plain")
LONG_LAYER_CYCLES = 500
ALLOWED = 0.02
"""Part by which measured cycles may differ from predicted ones."""
RESTART_CYCLES = 48
"""A read's command that is on its way (40 flash clocks) ends before the flash is read anew."""

Make = Callable[[IntegerGraph], tuple[str, ...]]


def dense(g: IntegerGraph) -> tuple[str, ...]:
    """Strides, dilations and asymmetric pads; rows that end in the middle of a tile."""
    x = g.conv(g.input(5, 11, 9), 6, (3, 3), strides=(2, 1), pads=(1, 0, 2, 1))
    x = g.conv(x, 7, (2, 3), dilations=(2, 2), pads=(0, 2, 1, 3))
    return (g.conv(x, 3, (1, 3), strides=(1, 2), nine_bits=True),)


def depthwise(g: IntegerGraph) -> tuple[str, ...]:
    """Broadcast mode, rotate mode, nine-bit weights."""
    x = g.conv(g.input(10, 9, 7), 0, (3, 3), pads=(1, 1, 1, 1))
    x = g.conv(x, 0, (3, 3), strides=(2, 2), pads=(0, 1, 1, 1))
    return (g.conv(x, 0, (2, 2), dilations=(2, 1), pads=(1, 1, 1, 0), nine_bits=True),)


def pointwise(g: IntegerGraph) -> tuple[str, ...]:
    """1 x 1 kernels with rows along all pixels, and with a stride."""
    x = g.conv(g.input(13, 5, 6), 21)
    return (g.conv(g.conv(x, 8, strides=(2, 2)), 4, nine_bits=True),)


def fractions(g: IntegerGraph) -> tuple[str, ...]:
    """Biases of parts of a sum, with and without; depthwise too."""
    x = g.conv(g.input(7, 6, 5), 9, (3, 3), fraction=True)
    x = g.conv(g.conv(x, 0, (2, 2), fraction=True), 11)
    return (g.conv(x, 5, fraction=True),)


def pools(g: IntegerGraph) -> tuple[str, ...]:
    """Overlapping, strided, padded and whole-image windows of many channel groups."""
    x = g.pool(g.input(37, 7, 6), (3, 2))
    x = g.pool(x, (2, 2), (2, 2), (1, 0, 0, 1))
    return (g.pool(x, (g.values[x].shape[2], g.values[x].shape[3])),)


def maxima(g: IntegerGraph) -> tuple[str, ...]:
    """Windows of maxima: strided, padded, doubled, halved; a table behind them."""
    x = g.input(6, 9, 8)
    y = g.max_pool(x, (3, 2), strides=(2, 2), pads=(1, 0, 1, 0))
    z = g.lookup(g.max_pool(x, (5, 1), pads=(2, 0, 2, 0)))
    return (y, z, g.max_pool(z, (9, 8)))


def moves(g: IntegerGraph) -> tuple[str, ...]:
    """Parts of tensors: cut, padded, enlarged, turned, joined in and between words."""
    x = g.input(9, 4, 5)
    y = g.conv(x, 6)
    (n,) = g.numbered(x)
    padded = np.pad(n, ((0, 0), (3, 2), (0, 1), (2, 0)), constant_values=-1)
    large = g.select(n[:, 4:8].repeat(2, axis=2).repeat(2, axis=3), x)
    turned = g.select(n[:, ::-1, ::-1, 1::2], x)
    joined = g.select(np.concatenate(g.numbered(x, y), axis=1), x, y)
    return (g.select(padded, x, fill=-3), large, turned, g.conv(joined, 4))


def phases(g: IntegerGraph) -> tuple[str, ...]:
    """Convolutions that write every other row and third column of one tensor."""
    x = g.conv(g.input(6, 4, 5), 8)
    parts = [
        g.conv(x, 8, (1, 2), pads=(0, 1, 0, 0), group=1 + row) for row in (0, 1) for _ in range(3)
    ]
    index = np.empty((1, 8, 8, 15), np.int64)
    for number, part in enumerate(g.numbered(*parts)):
        index[:, :, number // 3 :: 2, number % 3 :: 3] = part
    return (g.conv(g.select(index, *parts, joins_parts=True), 4, (2, 3)),)


def operands(g: IntegerGraph) -> tuple[str, ...]:
    """A factor for each channel, a smaller operand, nine-bit weights for copied channels."""
    x = g.input(6, 4, 5)
    codes = np.arange(-128, 128)
    products = np.clip(np.rint(np.outer(codes, codes) * 0.01), -128, 127).astype(np.int8)
    factors = g.rng.integers(-128, 128, (1, 6, 1, 1)).astype(np.int8)
    y = g.add(g.with_constant(x, factors, products), g.conv(x, 6, (4, 5)))
    return (y, g.conv(x, 3, (2, 2), nine_bits=True))


def constants(g: IntegerGraph) -> tuple[str, ...]:
    """Any function of a channel, of a pixel, and sums of and joins with what is stored."""
    x = g.input(6, 12, 13)
    table = g.rng.integers(-128, 128, (256, 256)).astype(np.int8)
    y = g.with_constant(x, g.rng.integers(-128, 128, (6, 1, 1)).astype(np.int8), table)
    z = g.with_constant(x, g.rng.integers(0, 3, (1, 1, 12, 1)).astype(np.int8), table)
    sum_ = g.add(y, z)
    many = g.rng.integers(-128, 128, (6, 12, 13)).astype(np.int8)
    binary = g.ops[-1]
    assert isinstance(binary, ir.Binary)
    summed = g.with_constant(sum_, many, binary.table)
    joined = g.constant(many.reshape(1, 6, 12, 13))
    return (summed, g.select(np.concatenate(g.numbered(z, joined), axis=1), z, joined))


def products(g: IntegerGraph) -> tuple[str, ...]:
    """A factor for each channel that is computed, as weights; factors for each element."""
    x = g.input(22, 7, 9)
    a = g.conv(x, 22, (3, 3), pads=(1, 1, 1, 1))
    gate = g.conv(g.pool(a, (7, 9)), 22)
    b = g.combine(a, gate, product_table(-128, -128))
    c = g.combine(gate, g.conv(b, 22), product_table(3, -5))
    mask = g.conv(c, 1)
    return (g.combine(c, mask, product_table(-128, 17)), g.combine(c, a, product_table(0, 0)))


def product_table(zero_a: int, zero_b: int) -> ir.Int8Array:
    """Codes of products, by the codes of both operands."""
    codes = np.arange(-128, 128)
    products = np.outer(codes - zero_a, codes - zero_b) * np.float32(0.0071)
    table: ir.Int8Array = np.clip(np.rint(products - 3), -128, 127).astype(np.int8)
    return table


def residuals(g: IntegerGraph) -> tuple[str, ...]:
    """Residual words in the written bank and in the one that the feeder reads; sum as a copy."""
    x = g.input(6, 5, 6)
    a = g.conv(x, 6, (3, 3), pads=(1, 1, 1, 1))
    b = g.conv(a, 6)
    same = g.add(b, x)  # x lies where b's layer writes
    c = g.conv(same, 6, (3, 1), pads=(1, 0, 1, 0))
    other = g.add(same, c)  # the operand is what the layer reads
    return (g.add(other, other), g.add(a, b))


def groups(g: IntegerGraph) -> tuple[str, ...]:
    """Blocks with moving windows, several layers for one tensor, a channel multiplier."""
    x = g.conv(g.input(16, 5, 6), 16, (3, 2), pads=(1, 0, 1, 1), group=2)
    y = g.conv(x, 16, (1, 3), group=8)
    return (g.conv(y, 32, (3, 3), pads=(1, 1, 1, 1), group=16), g.conv(x, 8, group=4))


def tables(g: IntegerGraph) -> tuple[str, ...]:
    """Tables behind a convolution, behind a sum, and alone."""
    x = g.input(4, 4, 5)
    a = g.lookup(g.conv(x, 4, (3, 3), pads=(1, 1, 1, 1)))
    b = g.lookup(g.add(g.conv(a, 4), x))
    return (g.lookup(g.lookup(b)), g.lookup(x))


def fully_connected(g: IntegerGraph) -> tuple[str, ...]:
    """More input channels than the weight FIFO has words; single pixels; a reshape between."""
    x = g.conv(g.input(1100), 9)
    x = g.reshape(g.reshape(x, (1, 9)), (1, 9, 1, 1))
    return (g.conv(x, 5, nine_bits=True),)


def narrow(g: IntegerGraph) -> tuple[str, ...]:
    """One channel, one row, one column, one output."""
    x = g.conv(g.input(1, 1, 9), 1, (1, 4), strides=(1, 3), pads=(0, 2, 0, 1))
    y = g.conv(g.input(1, 9, 1), 1, (4, 1), strides=(3, 1), pads=(2, 0, 1, 0))
    return (g.conv(x, 1), g.conv(y, 3), g.conv(g.input(1), 1))


def wide(g: IntegerGraph) -> tuple[str, ...]:
    """As many channel groups as the constants FIFO has slots, and more."""
    return (g.pool(g.conv(g.input(3, 2, 2), 300), (2, 2)),)


def long(g: IntegerGraph) -> tuple[str, ...]:
    """More tiles than the accumulator FIFO holds, with one read a row."""
    return (g.conv(g.conv(g.input(2, 20, 21), 4), 0, (1, 3), pads=(0, 1, 0, 1)),)


def late(g: IntegerGraph) -> tuple[str, ...]:
    """Many pixels, then many weights: the stream stores those in the gaps of the first layers."""
    x = g.conv(g.input(8, 16, 16), 16, (3, 3), pads=(1, 1, 1, 1))
    x = g.pool(g.conv(x, 16, (3, 3), pads=(1, 1, 1, 1)), (8, 8), (8, 8))
    return (g.conv(x, 300, (2, 2)),)


GRAPHS: tuple[Make, ...] = (
    *(dense, depthwise, pointwise, fractions, pools, maxima, moves, phases, operands, constants),
    *(products, residuals, groups, tables, fully_connected, narrow, wide, long, late),
)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """One compiled simulation for all tests of this file."""
    return Machine(CONFIG, tmp_path_factory.mktemp("machine"))


@pytest.fixture(scope="module", params=[2, pytest.param(1, marks=pytest.mark.full)])
def slow_machine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Machine]:
    """The same core behind a flash of two data lines, and of one, which no board has."""
    board = replace(UPDUINO_V3, name="slow", flash_lines=request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BOARDS, board.name, board)
        yield Machine(CONFIG, tmp_path_factory.mktemp("slow"), board=board)


def make(machine: Machine, build: Make, rng: np.random.Generator) -> Subject:
    """A subject of random constants and inputs."""
    g = IntegerGraph(rng)
    outputs = build(g)
    compiled = compile_graph(g.graph(*outputs, name=build.__name__), CONFIG, machine.board)
    return machine.add(compiled, g.codes())


def results_of(subjects: list[Subject], results: list[object]) -> Iterator[tuple[Subject, Run]]:
    """Checks every output; a run for each subject."""
    answers = iter(results)
    for subject in subjects:
        for _ in subject.inputs():
            next(answers)
        run = next(answers)
        assert isinstance(run, Run)
        for name in subject.output_names:
            words = next(answers)
            assert isinstance(words, list)
            subject.check(name, words)
        yield subject, run


def whole_run(subject: Subject) -> list[Step]:
    """Store the input, run, read the outputs."""
    return [*subject.inputs(), ["go", "start"], *subject.outputs()]


def near(measured: int, predicted: int, allowed: float = ALLOWED) -> bool:
    """Within the allowed part."""
    return abs(measured - predicted) <= allowed * predicted


def test_every_kind_of_layer_gives_goldens_codes_in_the_predicted_cycles(
    machine: Machine, rng: np.random.Generator, seed: int
) -> None:
    subjects = [make(machine, build, rng) for build in GRAPHS]
    script = [step for subject in subjects for step in whole_run(subject)]
    runs = machine.run(script, seed=seed)
    again = machine.run(script, seed=seed + 1)
    assert runs == again, "memory's contents at power-up change results or cycles"
    check_runs(subjects, runs)


def test_cycles_are_the_predicted_ones_behind_fewer_flash_lines(
    slow_machine: Machine, rng: np.random.Generator, seed: int
) -> None:
    subjects = [make(slow_machine, build, rng) for build in GRAPHS]
    script = [step for subject in subjects for step in whole_run(subject)]
    # A store and a recall that meet stop the feeder once, and recalls are faster where the feeder
    # has read all and only the drain is busy: the cycle model knows neither.
    check_runs(subjects, slow_machine.run(script, seed=seed), layers=0.05)


def check_runs(subjects: list[Subject], runs: list[object], *, layers: float = ALLOWED) -> None:
    """Golden's codes, and the predicted cycles, in whole runs of all subjects.

    `layers` is the part by which those of a single long layer may differ.
    """
    wrong = []
    for subject, run in results_of(subjects, runs):
        compiled = subject.compiled
        assert (run.state, run.error) == (State.DONE, CoreError.NONE), compiled.model.name
        assert run.layers_done == len(compiled.layers)
        if not near(run.cycles, compiled.total_cycles):
            wrong.append(f"{compiled.model.name}: {run.cycles}, predicted {compiled.total_cycles}")
        for layer, measured in zip(compiled.cycles, run.layer_cycles, strict=True):
            if measured > LONG_LAYER_CYCLES and not near(measured, layer.cycles, layers):
                wrong.append(
                    f"{compiled.model.name} {layer.name}: {measured}, predicted {layer.cycles}"
                )
    assert wrong == []


def test_a_pause_after_every_layer_shows_its_tensor_and_changes_nothing(
    machine: Machine, rng: np.random.Generator, seed: int
) -> None:
    subjects = [make(machine, build, rng) for build in GRAPHS]
    script: list[Step] = []
    for subject in subjects:
        script += subject.layer_by_layer()
    results = iter(machine.run(script, seed=seed))
    for subject in subjects:
        layers = subject.compiled.layers
        for _ in subject.inputs():
            next(results)
        for index, layer in enumerate(layers):
            run = next(results)
            last = index == len(layers) - 1
            assert run.state in ((State.DONE, State.PAUSED) if last else (State.PAUSED,))
            assert run.layers_done == index + 1
            words = next(results)
            if not layer.inner:
                subject.check(layer.output, words)


def test_a_second_start_repeats_result_and_cycles(
    machine: Machine, rng: np.random.Generator, seed: int
) -> None:
    subjects = [make(machine, build, rng) for build in (residuals, depthwise, tables)]
    twice = [subject for subject in subjects for _ in range(2)]
    script = [step for subject in twice for step in whole_run(subject)]
    runs = [run for _, run in results_of(twice, machine.run(script, seed=seed))]
    assert runs[::2] == runs[1::2]


def test_a_start_after_an_abort_pause_or_error_begins_anew(
    machine: Machine, rng: np.random.Generator, seed: int
) -> None:
    subject = make(machine, tables, rng)
    total = subject.compiled.total_cycles
    words = list(subject.compiled.program.words)
    broken = machine.place(np.array([words[0] & 0xFFF | 0x9000, *words[1:]], "<u2").tobytes())
    disturbances: list[list[Step]] = [
        *([["go", "start", 0xFFFF, int(cycles)]] for cycles in rng.integers(1, total, 10)),
        *([["go", "start", layers]] for layers in range(3)),
        [["program", broken], ["go", "start"], ["program", subject.address]],
    ]
    subjects: list[Subject] = []
    script: list[Step] = []
    skipped: list[int] = []
    for number, disturbance in enumerate(disturbances):
        aborted = [["go", "abort"]] if number % 2 else []
        skipped.append(len(subject.inputs()) + len(disturbance) + len(aborted))
        script += [*subject.inputs(), *disturbance, *aborted, *whole_run(subject)]
        subjects.append(subject)
    results = machine.run(script, seed=seed)
    kept: list[object] = []
    position = 0
    whole = len(whole_run(subject))
    for count in skipped:
        kept += results[position + count : position + count + whole]
        position += count + whole
    runs = [run for _, run in results_of(subjects, kept)]
    assert all(run.state == State.DONE for run in runs)
    cycles = [run.cycles for run in runs]
    assert max(cycles) - min(cycles) <= RESTART_CYCLES, sorted(set(cycles))


def test_an_abort_leaves_the_core_idle(
    machine: Machine, rng: np.random.Generator, seed: int
) -> None:
    subject = make(machine, depthwise, rng)
    script = [*subject.inputs(), ["go", "start", 0xFFFF, 700], ["go", "abort"]]
    running, aborted = machine.run(script, seed=seed)[-2:]
    assert running.state == State.RUNNING
    assert aborted == Run(State.IDLE, CoreError.NONE, 0, 0, [])


def test_a_damaged_program_ends_in_an_error(
    machine: Machine, rng: np.random.Generator, seed: int
) -> None:
    subject = make(machine, pointwise, rng)
    words = subject.compiled.program.words
    flipped = [*words[:-1], words[-1] ^ 0x0100]  # the CRC itself
    unknown = [0x7000, *words]
    script: list[Step] = subject.inputs()
    for program in (flipped, unknown):
        address = machine.place(np.array(program, "<u2").tobytes())
        script += [["program", address], ["go", "start"]]
    bad_crc, _, bad_packet = machine.run(script, seed=seed)[-3:]
    assert (bad_crc.state, bad_crc.error) == (State.ERROR, CoreError.STREAM_CRC)
    assert (bad_packet.state, bad_packet.error) == (State.ERROR, CoreError.UNKNOWN_PACKET)
