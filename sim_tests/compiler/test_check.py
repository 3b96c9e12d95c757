"""`qcompile check`: layers, figures and verdict, on a network that can be worked out by hand."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from qcompile.compiler import cli
from qcompile.compiler.backend import check_flash, compile_model
from qcompile.compiler.errors import CapacityError
from qcompile.compiler.pipeline import load_model
from qcompile.hw.boards import Board
from qcompile.hw.boards.icebreaker import ICEBREAKER
from qcompile.hw.program import PacketKind
from sim_tests.compiler.networks import Network, random_conv

X = (0.02, -3, "int8")
Y = (0.05, 5, "int8")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def save_network(path: Path, rng: np.random.Generator, size: int | str, channels: int = 8) -> None:
    """Quantize, a convolution of 3 x 3 on 8 channels, one of 1 x 1, Dequantize."""
    network = Network()
    x = network.quantize(network.input("x", "float32", [1, 8, size, size]), X)
    a = random_conv(network, rng, x, (channels, 8, 3, 3), (X, Y), pads=[1, 1, 1, 1])
    b = random_conv(network, rng, a, (6, channels, 1, 1), (Y, Y))
    network.output(network.dequantize(b, Y), "float32")
    network.save(path)


def checked(capsys: pytest.CaptureFixture[str], code: int, *arguments: str) -> dict[str, Any]:
    """The JSON of a check that ends with an exit code."""
    assert cli.main(["check", *arguments, "--json"]) == code
    record: dict[str, Any] = json.loads(capsys.readouterr().out)
    return record


def message_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a command that must end with exit code 1 says on standard error, without progress."""
    assert cli.main(arguments) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    return re.sub(r"^ *[\d.]+ s  .*\n", "", captured.err, flags=re.MULTILINE)


def test_json_has_the_documented_fields_and_figures(
    folder: Path, rng: np.random.Generator, capsys: pytest.CaptureFixture[str], project: Path
) -> None:
    save_network(folder / "m.onnx", rng, 6)
    record = checked(capsys, 0, "m.onnx", "--device", "up5k")
    assert list(record) == ["model", "requant", "problems", "targets"]
    assert (record["model"]["name"], record["requant"], record["problems"]) == ("m", "exact", [])
    (target,) = record["targets"]
    assert (target["family"], target["device"], target["board"]) == (
        *("ice40", "iCE40UP5K", "icebreaker"),
    )
    assert (target["verdict"], target["problems"]) == ("fits", [])
    layers = {row["op"]: row for row in target["layers"] if row["op"] != "Conv"}
    assert layers["QuantizeLinear"]["runs"] == "host before"
    assert layers["DequantizeLinear"]["runs"] == "host after"
    assert layers["DequantizeLinear"]["output_shape"] == [1, 6, 6, 6]
    assert layers["DequantizeLinear"]["macs"] is None
    first, second = (row for row in target["layers"] if row["op"] == "Conv")
    assert (first["macs"], second["macs"]) == (36 * 9 * 8 * 8, 36 * 8 * 6)
    assert (first["runs"], second["input_shape"], second["output_shape"]) == (
        *("accelerator", [8, 6, 6], [6, 6, 6]),
    )
    # Two words of four channels a pixel hold 8 channels, and 6.
    assert second["memory_bytes"] == 36 * 4 * (2 + 2)
    assert second["weight_bytes"] == 8 * 8, "6 outputs are filled up to 8"
    assert target["cycles"] == first["cycles"] + second["cycles"]
    assert target["latency_ms"] == pytest.approx(target["cycles"] / 24_000, abs=1e-4)
    documented = (project / "docs" / "architecture.md").read_text().partition("check --json")[2]
    for key in {*target, *first, *target["flash"]}:
        assert re.search(rf"\b{key}\b", documented), key


def test_figures_are_those_of_the_compilation(
    folder: Path, rng: np.random.Generator, capsys: pytest.CaptureFixture[str]
) -> None:
    save_network(folder / "m.onnx", rng, 6)
    (target,) = checked(capsys, 0, "m.onnx", "--target", "ice40")["targets"]
    assert cli.main(["check", "m.onnx", "--requant", "shift"]) == 0
    compiled = compile_model(load_model(folder / "m.onnx"), board=ICEBREAKER, requant="exact")
    cycles = [row["cycles"] for row in target["layers"] if row["runs"] == "accelerator"]
    assert cycles == [layer.cycles for layer in compiled.cycles]
    weights = sum(
        2 * (end - begin - 1) - 2 * (kind == PacketKind.STORE)
        for kind, begin, end in compiled.program.packets()
        if kind in (PacketKind.WEIGHTS, PacketKind.STORE)
    )
    assert target["flash"]["weight_bytes"] == weights
    assert target["flash"]["image_bytes"] == 256 + 2 * len(compiled.program.words)


def test_table_lists_every_step_and_ends_with_the_verdict(
    folder: Path, rng: np.random.Generator, capsys: pytest.CaptureFixture[str]
) -> None:
    save_network(folder / "m.onnx", rng, 6)
    assert cli.main(["check", "m.onnx", "--device", "up5k"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [
        *("layer", "op", "runs", "input", "output", "cycles", "MACs", "memory", "weights")
    ]
    steps = [re.split(r"  +", line)[1:5] for line in lines[2 : lines.index("")]]
    assert steps == [
        ["QuantizeLinear", "host before", "1x8x6x6", "1x8x6x6"],
        ["Conv", "accelerator", "8x6x6", "8x6x6"],
        ["Conv", "accelerator", "8x6x6", "6x6x6"],
        ["DequantizeLinear", "host after", "1x6x6x6", "1x6x6x6"],
    ]
    assert "clock       24.00 MHz, not placed and routed" in lines
    assert any(re.fullmatch(r"latency     \d\.\d\d ms", line) for line in lines)
    assert any(re.match(r"flash       [\d,]+ bytes of weights; ", line) for line in lines)
    assert lines[-1] == "ice40 iCE40UP5K on icebreaker: fits"
    assert list(folder.iterdir()) == [folder / "m.onnx"], "nothing is written"


def test_what_is_too_large_is_said_with_numbers(
    folder: Path, rng: np.random.Generator, capsys: pytest.CaptureFixture[str]
) -> None:
    save_network(folder / "big.onnx", rng, 100, channels=16)
    assert cli.main(["check", "big.onnx", "--device", "up5k"]) == 1
    text = capsys.readouterr().out
    # The input has 8 channels of 100 x 100 pixels; a bank has 64 KiB.
    problem = re.search(
        r"\n\nice40 iCE40UP5K on icebreaker: does not fit\n"
        r"('\S+' \[8, 100, 100\] does not fit the activation memory\n"
        r"  needs 80,000 bytes in one bank\n"
        r"  free in it beside the tensors alive at that time: 65,536 of 65,536 bytes\n"
        r"  no device that qcompile knows would do \(up5k, hx8k\)\n"
        r"  help: .*)\n$",
        text,
    )
    assert problem is not None, text
    assert message_of(capsys, "big.onnx", "--target", "ice40") == problem[1] + "\n"
    (target,) = checked(capsys, 1, "big.onnx", "--device", "up5k")["targets"]
    assert (target["verdict"], target["problems"]) == ("does not fit", [problem[1]])
    assert (target["cycles"], target["latency_ms"], target["flash"]) == (None, None, None)
    widest = next(row for row in target["layers"] if row["output_shape"] == [16, 100, 100])
    assert (widest["macs"], widest["cycles"]) == (10_000 * 9 * 8 * 16, None)
    assert widest["memory_bytes"] == 10_000 * (16 + 8)


def test_without_a_target_every_device_answers_and_one_is_enough(
    folder: Path, rng: np.random.Generator, capsys: pytest.CaptureFixture[str]
) -> None:
    save_network(folder / "m.onnx", rng, 32)
    up5k, hx8k, *larger = checked(capsys, 0, "m.onnx")["targets"]
    assert (up5k["device"], up5k["verdict"], up5k["problems"]) == ("iCE40UP5K", "fits", [])
    assert (hx8k["device"], hx8k["verdict"]) == ("iCE40HX8K", "does not fit")
    # 8 channels of 32 x 32 pixels.
    (problem,) = hx8k["problems"]
    assert re.match(
        r"^'\S+' \[8, 32, 32\] does not fit the activation memory\n"
        r"  needs 8,192 bytes in one bank\n"
        r"  free in it beside the tensors alive at that time: 4,096 of 4,096 bytes\n"
        r"  hx8k has 4,096 bytes a bank with 256 or .*\n"
        r"  the smallest device that would do: up5k \(iCE40UP5K\)\n"
        r"  help: use a smaller input or fewer channels in the widest layers$",
        problem,
    ), problem
    assert {(x["family"], x["verdict"]) for x in larger} == {("xc7", "fits")}
    assert {x["device"] for x in larger} == {"XC7A35T", "XC7A100T", "XC7Z020"}
    checked(capsys, 1, "m.onnx", "--device", "hx8k")
    assert cli.main(["check", "m.onnx"]) == 0
    table = capsys.readouterr().out.rstrip("\n").split("\n\n")[-1].splitlines()
    verdicts = {found["device"]: found["verdict"] for found in (up5k, hx8k, *larger)}
    shown = [re.split(r"  +", line) for line in table[2:]]
    assert {cells[0]: cells[2] for cells in shown} == verdicts
    assert shown[0][3] == f"{up5k['cycles']:,}" and shown[1][3:] == ["-", "-", "-"]


def test_all_problems_are_listed_in_the_words_of_compile(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nodes = [
        helper.make_node("Cos", ["x"], ["a"], name="first"),
        helper.make_node("Sin", ["a"], ["y"], name="second"),
    ]
    infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 4]) for n in "xy"]
    graph = helper.make_graph(nodes, "g", infos[:1], infos[1:])
    opset = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), folder / "wave.onnx")
    message = message_of(capsys, "check", "wave.onnx")
    assert message == message_of(capsys, "wave.onnx", "--target", "ice40")
    record = checked(capsys, 1, "wave.onnx")
    assert record["model"] == {"name": "wave", "sha256": None}
    assert record["targets"] == []
    listed = [line for problem in record["problems"] for line in problem.splitlines()]
    assert message.splitlines()[1:] == [f"  {line}" for line in listed]
    assert [problem.split("'")[1] for problem in record["problems"][:2]] == ["first", "second"]


def test_what_no_unit_computes_is_refused_for_the_target(
    folder: Path, rng: np.random.Generator, capsys: pytest.CaptureFixture[str]
) -> None:
    network = Network()
    coarse, fine = (8.0, 0, "int8"), (0.0001, 0, "int8")
    x = network.input("x", "int8", [1, 8, 4, 4])
    a = random_conv(network, rng, x, (4, 8, 1, 1), ((0.02, 0, "int8"), coarse))
    network.output(random_conv(network, rng, a, (4, 4, 1, 1), (coarse, fine)), "int8")
    network.save(folder / "far.onnx")
    message = message_of(capsys, "far.onnx", "--target", "ice40")
    assert "requantization shifts" in message
    (target,) = checked(capsys, 1, "far.onnx", "--device", "up5k")["targets"]
    assert target["verdict"] == "refused"
    assert target["problems"] == [message.rstrip("\n")]


def test_shapes_that_host_steps_report_are_onnxruntimes(
    folder: Path, rng: np.random.Generator, capsys: pytest.CaptureFixture[str]
) -> None:
    save_network(folder / "open.onnx", rng, "S")
    assert "--shape 'x=1,8,S,S'" in message_of(capsys, "check", "open.onnx")
    target, *_ = checked(capsys, 0, "open.onnx", "--shape", "x=1,8,7,7")["targets"]
    session = onnxruntime.InferenceSession(folder / "open.onnx")
    (result,) = session.run(None, {"x": np.zeros((1, 8, 7, 7), np.float32)})
    assert target["layers"][-1]["output_shape"] == list(np.asarray(result).shape)


def test_a_target_that_does_not_exist_is_wrong_usage(
    folder: Path, rng: np.random.Generator, capsys: pytest.CaptureFixture[str]
) -> None:
    save_network(folder / "m.onnx", rng, 6)
    assert cli.main(["check", "m.onnx", "--target", "ecp5"]) == 2
    assert capsys.readouterr().err.startswith("--target ecp5: no such device family\n  help: ")


def test_a_missing_file_is_refused_as_compile_does(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = message_of(capsys, "check", "no.onnx")
    assert message == message_of(capsys, "no.onnx", "--target", "ice40")
    assert checked(capsys, 1, "no.onnx")["problems"] == [message.rstrip("\n")]


def with_flash(size: int) -> Board:
    """The iCEBreaker with a flash of so many bytes."""
    part = replace(ICEBREAKER.flash_part, size_bytes=size)
    return replace(ICEBREAKER, flash_part=part)


def test_a_program_longer_than_the_flash_is_refused(folder: Path, rng: np.random.Generator) -> None:
    save_network(folder / "m.onnx", rng, 6)
    compiled = compile_model(load_model(folder / "m.onnx"), board=ICEBREAKER, requant="exact")
    needed = 256 + 2 * len(compiled.program.words)
    board = with_flash(0x100000 + needed)
    check_flash(compiled, board)
    message = (
        "icebreaker: the weights do not fit the flash\n"
        f"  weights and program need {needed:,} bytes\n"
        f"  available: {needed - 1:,}\n"
        "  help: use fewer channels in the layers with the most weights"
    )
    with pytest.raises(CapacityError, match=rf"^{re.escape(message)}$"):
        check_flash(compiled, with_flash(0x100000 + needed - 1))


def test_no_tool_is_started(folder: Path, rng: np.random.Generator) -> None:
    save_network(folder / "m.onnx", rng, 6)
    program = (
        "import subprocess, sys\n"
        "def refuse(*arguments, **options): raise AssertionError(arguments)\n"
        "subprocess.Popen.__init__ = refuse\n"
        "from qcompile.compiler import cli\n"
        "code = cli.main(['check', 'm.onnx'])\n"
        "print(code, 'amaranth.back.verilog' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stdout.endswith("\n0 False\n"), result.stdout + result.stderr
