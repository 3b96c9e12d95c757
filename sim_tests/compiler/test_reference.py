"""The reference: options, probe of the machine, inner tensors and float islands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, load, numpy_helper, save, save_model

from qcompile.compiler.errors import InputError, ModelError
from qcompile.compiler.frontend.reference_models import PROBE_RESULT, PROBE_SHAPE
from qcompile.compiler.reference import Reference, options, probe_saturation
from sim_tests.compiler.networks import Network, random_codes, random_conv
from sim_tests.compiler.qoperator_networks import MICROSOFT, random_weight, tensor

WEIGHT = np.array([[[[2]]], [[[-3]]]], np.int8)


def write_conv(path: Path, dtype: str = "int8", between: tuple[str, ...] = ()) -> Path:
    """x -> DQ -> Conv -> operators `between` -> Q 'y' -> Relu-free DQ -> Q 'z', all scales 0.5."""
    tensor_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    constants = {
        "s": np.float32(0.5),
        "z8": np.array(3, dtype),
        "w": WEIGHT,
        "zw": np.int8(0),
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "s", "z8"], ["x_real"]),
        helper.make_node("DequantizeLinear", ["w", "s", "zw"], ["w_real"]),
        helper.make_node("Conv", ["x_real", "w_real"], ["real_0"], name="the_conv"),
    ]
    for i, operator in enumerate(between):
        nodes.append(helper.make_node(operator, [f"real_{i}"], [f"real_{i + 1}"], name=operator))
    nodes += [
        helper.make_node("QuantizeLinear", [f"real_{len(between)}", "s", "z8"], ["y"]),
        helper.make_node("DequantizeLinear", ["y", "s", "z8"], ["y_real"]),
        helper.make_node("GlobalAveragePool", ["y_real"], ["pooled"]),
        helper.make_node("QuantizeLinear", ["pooled", "s", "z8"], ["z"]),
    ]
    graph = helper.make_graph(
        nodes,
        "conv",
        [helper.make_tensor_value_info("x", tensor_type, [1, 1, 2, 2])],
        [helper.make_tensor_value_info("z", tensor_type, [1, 2, 1, 1])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opset = [helper.make_opsetid("", 13)]
    save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


def test_inner_tensors_and_outputs_are_those_of_the_fused_model(tmp_path: Path) -> None:
    reference = Reference(write_conv(tmp_path / "m.onnx"), ["y", "not_there"])
    x = np.arange(-8, 0, dtype=np.int8).reshape(2, 1, 2, 2)
    run = reference.run({"x": x})
    # (x - 3) * 0.5 * w * 0.5 / 0.5 + 3, rounded half to even before the zero point is added.
    steps = np.rint((x.astype(int) - 3) * 0.5 * WEIGHT.reshape(1, 2, 1, 1)) + 3
    assert list(run.layers) == ["y"]
    np.testing.assert_array_equal(run.layers["y"], np.clip(steps, -128, 127))
    assert run.outputs["z"].shape == (2, 2, 1, 1)
    assert run.default_outputs is not None
    assert run.default_outputs["z"].shape == (2, 2, 1, 1)
    assert reference.islands == ()


def test_external_data_is_found_by_the_fused_model_too(tmp_path: Path) -> None:
    write_conv(tmp_path / "inside.onnx")
    (tmp_path / "real").mkdir()
    (tmp_path / "link").mkdir()
    model = load(tmp_path / "inside.onnx")
    save_model(
        model,
        tmp_path / "real" / "m.onnx",
        save_as_external_data=True,
        location="w.bin",
        size_threshold=0,
    )
    (tmp_path / "link" / "m.onnx").symlink_to("../real/m.onnx")
    x = np.arange(-8, 0, dtype=np.int8).reshape(2, 1, 2, 2)
    expected = Reference(tmp_path / "inside.onnx", ["y"]).run({"x": x})
    for folder in ("real", "link"):
        run = Reference(tmp_path / folder / "m.onnx", ["y"]).run({"x": x})
        np.testing.assert_array_equal(run.layers["y"], expected.layers["y"])
        np.testing.assert_array_equal(run.outputs["z"], expected.outputs["z"])


def test_a_default_session_that_fails_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = ort.InferenceSession

    def refuse_default(path: str, settings: ort.SessionOptions, **options: Any) -> Any:
        try:
            settings.get_session_config_entry("session.qdqisint8allowed")
        except RuntimeError as error:  # this is the session without our options
            raise ValueError("no kernel") from error
        return session(path, settings, **options)

    monkeypatch.setattr(ort, "InferenceSession", refuse_default)
    run = Reference(write_conv(tmp_path / "m.onnx"), []).run({"x": np.zeros((1, 1, 2, 2), np.int8)})
    assert run.default_outputs is None
    assert run.outputs["z"].shape == (1, 2, 1, 1)


def test_a_model_that_fails_while_it_runs_is_one_message(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    reference = Reference(write_conv(tmp_path / "m.onnx"), [])
    with pytest.raises(ModelError, match=r"^m\.onnx: ONNX Runtime .* does not run this model"):
        reference.run({"x": np.zeros((1, 1, 5, 2), np.int8)})
    assert capfd.readouterr().err == ""


def test_a_float_operator_between_codes_is_an_island(tmp_path: Path) -> None:
    reference = Reference(write_conv(tmp_path / "m.onnx", between=("Tanh",)), [])
    (island,) = reference.islands
    assert island.tensor == "y"
    assert island.operators[0] == "FusedConv 'the_conv'"
    assert reference.downstream([island]) == {"y", "z"}
    assert reference.downstream([]) == frozenset()


def test_a_saturating_machine_is_refused_for_uint8_with_int8_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_conv(tmp_path / "m.onnx", dtype="uint8")
    monkeypatch.setattr("qcompile.compiler.reference.probe_saturation", lambda: True)
    with pytest.raises(InputError) as raised:
        Reference(path, [])
    assert str(raised.value).startswith(
        "m.onnx: this machine cannot be the reference for a network of uint8 activations "
        "with int8 weights\n"
    )
    assert "help: run this command on an x86 processor with" in str(raised.value)
    Reference(write_conv(tmp_path / "signed.onnx"), [])  # int8 kernels are exact everywhere


def test_the_probe_tells_whether_this_machine_has_vnni() -> None:
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    if "avx2" not in flags:
        pytest.skip("the probe's answer is known for x86 processors under Linux only")
    has_vnni = "avx512_vnni" in flags or "avx_vnni" in flags
    assert round(PROBE_SHAPE[0] * 255 * 127 / 2**14) == PROBE_RESULT
    assert probe_saturation() is not has_vnni


def test_a_model_that_onnxruntime_refuses_is_named(tmp_path: Path) -> None:
    node = helper.make_node("Conv", ["x", "absent"], ["y"])
    info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 1, 2, 2]) for n in "xy"]
    graph = helper.make_graph([node], "g", info[:1], info[1:])
    save(helper.make_model(graph, ir_version=8), tmp_path / "m.onnx")
    with pytest.raises(ModelError) as raised:
        Reference(tmp_path / "m.onnx", [])
    assert str(raised.value).startswith("m.onnx: ONNX Runtime ")


def test_the_options_that_matter_are_recorded() -> None:
    recorded = options()
    assert recorded["provider"] == "CPUExecutionProvider"
    assert recorded["graph_optimization_level"] == "ORT_ENABLE_ALL"
    assert recorded["session.qdqisint8allowed"] == "1"
    assert recorded["session.qdq_matmulnbits_accuracy_level"] == "0"


def test_kws_is_int8_throughout_and_as_accurate_as_documented(shared: Path) -> None:
    data = np.load(shared / "data" / "kws01.npz")
    reference = Reference(shared / "models" / "mlpt_kws_dscnn.onnx", [])
    outputs = reference.run({"input_1": data["x"][:100]}).outputs["Identity"]
    assert reference.islands == ()
    assert (outputs.argmax(axis=1) == data["y"][:100]).mean() == 0.93


def test_model_with_external_data_gives_inner_tensors(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    network = Network()
    parameters = (0.05, 3, "int8")
    x = network.input("x", "int8", (1, 4, 6, 6))
    inner = random_conv(network, rng, x, (4, 4, 3, 3), (parameters, parameters))
    last = random_conv(network, rng, inner, (4, 4, 3, 3), (parameters, parameters))
    network.output(last, "int8")
    whole, parts = tmp_path / "whole.onnx", tmp_path / "parts.onnx"
    network.save(whole)
    save_model(
        network.model(), parts, save_as_external_data=True, location="d.bin", size_threshold=100
    )
    inputs = {"x": random_codes(rng, (2, 4, 6, 6), "int8")}
    expected, run = (Reference(path, [inner]).run(inputs).layers for path in (whole, parts))
    assert np.array_equal(run[inner], expected[inner])


def test_gemm_that_stays_float_is_an_island(tmp_path: Path, rng: np.random.Generator) -> None:
    network = Network()
    a = tensor(network, network.input("x", "uint8", (1, 24)), (0.05, 100, "uint8"))
    b, _ = random_weight(network, rng, (24, 10), "uint8", depth=24)
    real = network.node("QGemm", *a, *b, "", name="g", domain=MICROSOFT)
    network.output(network.quantize(real, (0.05, 130, "uint8"), output="y"), "uint8")
    islands = Reference(network.save(tmp_path / "m.onnx"), []).islands
    assert [(island.tensor, island.operators) for island in islands] == [("y", ("QGemm 'g'",))]
