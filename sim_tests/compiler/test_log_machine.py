"""Logarithmic networks from file to layers: golden against ONNX Runtime, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from qcompile.compiler import backend
from qcompile.compiler.errors import CapacityError, QcompileError, UnsupportedError
from qcompile.compiler.frontend.log_quantize import NAME
from qcompile.compiler.golden.interpreter import run_graph, run_model
from qcompile.compiler.golden.log_domain import encode, last_threshold, thresholds
from qcompile.compiler.golden.numerics import requantize
from qcompile.compiler.ir import Requant
from qcompile.compiler.log_format import LogFormat
from qcompile.compiler.passes.lower import lower
from qcompile.compiler.pipeline import load_model
from qcompile.compiler.quantize.options import Options
from qcompile.compiler.quantize.sessions import observe
from qcompile.hw.boards.ice40_hx8k_b_evn import ICE40_HX8K_B_EVN
from qcompile.hw.config import AcceleratorConfig
from qcompile.runtime.host_ops import run_host_ops
from sim_tests.compiler import float_networks
from sim_tests.compiler.log_networks import images, log_network


def test_golden_gives_the_codes_and_outputs_of_onnxruntime(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    path = log_network(tmp_path, rng)
    inputs = {"image": images(rng, 60)}
    proto = onnx.load(path)
    logs = [node.output[0] for node in proto.graph.node if node.op_type == NAME]
    expected = observe(proto, inputs, [*logs, "y"])
    model = load_model(path)
    sent = run_host_ops(model.prologue, dict(inputs))
    found = run_graph(model.graph, {name: sent[name] for name in model.graph.inputs})
    compared = 0
    for name in logs:
        value = model.graph.values.get(f"{name}:codes")
        if value is None or value.quantization is None:
            continue  # the same codes, reshaped
        real = found[value.name].astype(np.float32) * np.float32(value.quantization.scale)
        np.testing.assert_array_equal(real.reshape(expected[name].shape), expected[name])
        assert set(np.unique(found[value.name])) <= {0, 1, 2, 4, 8, 16, 32, 64}
        compared += 1
    assert compared == 6
    np.testing.assert_array_equal(run_model(model, inputs)["y"], expected["y"])


def test_sums_become_powers_of_two_by_all_thresholds(rng: np.random.Generator) -> None:
    inputs = LogFormat(fsr=-20, step=16, levels=8)
    outputs = LogFormat(fsr=-7, step=16, levels=8)
    for scale in rng.uniform(1e-4, 1e-1, 20).astype(np.float32).tolist():
        reached = thresholds(inputs, outputs, scale)
        requant = Requant(
            mode="log",
            mantissa=np.array([reached[-1]]),
            shift=np.array([0]),
            zero_point=0,
            low=0,
            high=64,
        )
        sums = np.array([t + d for t in reached for d in (-1, 0, 1)] + [0, -1, -(2**30), 2**30])
        codes = encode(sums, reached).astype(np.int64)
        np.testing.assert_array_equal(
            requantize(sums[:, np.newaxis], requant)[:, 0], np.where(codes, 1 << codes >> 1, 0)
        )
    whole = LogFormat(fsr=0, step=16, levels=8)
    assert last_threshold(whole, 1.0) == thresholds(whole, whole, 1.0)[-1] == 46
    assert last_threshold(whole, 1e-30) == 1 << 40


def test_host_encodes_inputs_as_the_format_does(tmp_path: Path, rng: np.random.Generator) -> None:
    model = load_model(log_network(tmp_path, rng))
    operation = next(op for op in model.prologue if op["op"] == "LogQuantize")
    chosen = next(value.log for value in model.graph.values.values() if value.log)
    fields = {"thresholds": chosen.thresholds.tolist(), "codes": chosen.whole.tolist()}
    x = np.concatenate([chosen.thresholds, np.nextafter(chosen.thresholds, 0), [-1, 0, 1e30]])
    x = x.astype(np.float32)
    ran = run_host_ops([{**operation, "attributes": fields}], {"image": x})
    codes = ran[operation["outputs"][0]]  # type: ignore[index]  # a list in a dict of objects
    np.testing.assert_array_equal(codes, chosen.whole[chosen.codes(x)])
    assert codes.dtype == np.int8


def test_machine_of_a_logarithmic_network_has_shifts(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    model = load_model(log_network(tmp_path, rng))
    compiled = backend.compile_model(model, board=ICE40_HX8K_B_EVN, requant="exact")
    assert compiled.config.pe == "log"
    logs = [layer.log for layer in compiled.layers]
    assert logs == [True] * 5 + [False]


def test_configuration_ids_of_int8_machines_do_not_know_of_shifts() -> None:
    config = AcceleratorConfig()
    assert config.id != replace(config, pe="log").id
    with pytest.raises(ValueError, match=r"^acc_width must be 24 or less with pe log, not 28$"):
        AcceleratorConfig(pe="log", acc_width=28)


def test_sums_beyond_24_bits_are_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    layers = lower(load_model(log_network(tmp_path, rng)).graph)
    bias = np.full_like(layers[0].bias, 1 << 24)
    model = load_model(log_network(tmp_path, rng))
    first = next(op for op in model.graph.ops if op.name == layers[0].output)
    ops = tuple(replace(op, bias=bias) if op is first else op for op in model.graph.ops)  # type: ignore[call-arg]  # a Conv
    wide = replace(model, graph=replace(model.graph, ops=ops))
    with pytest.raises(CapacityError, match="its sums may need 26 bits"):
        backend.compile_model(wide, board=ICE40_HX8K_B_EVN, requant="exact")


def test_other_formats_and_sums_of_tensors_are_refused(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    with pytest.raises(QcompileError, match="has 16 levels, 8 sixteenths of an octave apart"):
        load_model(log_network(tmp_path, rng, 16, 8))
    made = float_networks.digits().quantized(Options(activations="log:8", log_step=16))
    path = tmp_path / "digits.onnx"
    path.write_bytes(made.model.SerializeToString())
    with pytest.raises(
        QcompileError, match=r"residual/relu/real.*ends in logarithmic codes what is no layer"
    ):
        load_model(path)


def test_arrays_of_multipliers_refuse_logarithmic_networks(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    class NoShifts:
        shifts = False

    graph = load_model(log_network(tmp_path, rng)).graph
    with pytest.raises(UnsupportedError, match="activations are logarithmic, and this device"):
        lower(graph, machine=NoShifts())  # type: ignore[arg-type]  # asked for nothing else
