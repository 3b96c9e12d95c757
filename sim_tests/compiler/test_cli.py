"""The command line: what it prints, exit codes, and one message for everything that is wrong."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, load, save, save_model

from qcompile.compiler import cli, targets
from qcompile.compiler.artifact import write_build
from qcompile.compiler.golden.interpreter import run_graph
from qcompile.hw.boards import BOARDS
from qcompile.hw.devices import UP5K
from sim_tests.compiler.networks import Network, random_conv

QCOMPILE = Path(sys.executable).parent / "qcompile"
VERBS = ("compile", "check", "quantize", "sim", "run", "flash", "doctor", "targets")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> Path:
    """The working folder, with a small network `m.onnx` and inputs `x.npz` for it."""
    monkeypatch.chdir(tmp_path)
    network = Network()
    x = network.input("x", "int8", [1, 2, 4, 4])
    y = random_conv(network, rng, x, (3, 2, 4, 4), ((0.02, -3, "int8"), (0.05, 5, "int8")))
    network.output(y, "int8")
    network.save(tmp_path / "m.onnx")
    x_codes = rng.integers(-128, 128, (5, 2, 4, 4)).astype(np.int8)
    np.savez(tmp_path / "x.npz", x=x_codes, y=np.arange(5) % 3)
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that must end with exit code 1 and a message, and leave nothing behind."""
    before = sorted(os.listdir())
    assert cli.main(arguments) == 1
    assert sorted(os.listdir()) == before
    captured = capsys.readouterr()
    assert captured.out == ""
    message = re.sub(r"^ *[\d.]+ s  .*\n", "", captured.err, flags=re.MULTILINE)
    assert "Traceback" not in message
    return message


def misused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command whose options the verb itself finds wrong: exit code 2 and a message."""
    assert cli.main(arguments) == 2
    message = capsys.readouterr().err
    return re.sub(r"^ *[\d.]+ s  .*\n", "", message, flags=re.MULTILINE)


def usage_error(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that must end with exit code 2; the last line of its message."""
    with pytest.raises(SystemExit) as raised:
        cli.main(arguments)
    assert raised.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


def golden(*arguments: str) -> tuple[str, ...]:
    """`sim m.onnx --engine golden` with further arguments."""
    return ("sim", "m.onnx", "--engine", "golden", *arguments)


# ------------------------------------------------------------------------------- help


def test_help_answers_without_importing_numpy_or_onnx() -> None:
    code = (
        "import sys; from qcompile.compiler import cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted(set(sys.modules) & {'numpy', 'onnx', 'onnxruntime', 'amaranth', 'rich'}))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.endswith("\n[]\n"), result.stdout + result.stderr


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_every_verb_has_help_with_examples(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        cli.main([verb, "--help"] if verb else ["--help"])
    assert raised.value.code == 0
    assert f"qcompile {verb or 'sim'}" in capsys.readouterr().out.partition("examples:")[2] + (
        "qcompile compile" if verb == "compile" else ""
    )


def test_no_argument_is_a_question_for_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        cli.main([])
    assert raised.value.code == 0
    assert "usage: qcompile" in capsys.readouterr().out


def test_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert re.fullmatch(r"qcompile \d+\.\d+\.\d+\n", capsys.readouterr().out)


def test_targets_lists_device_and_board(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["targets"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:4] for line in lines[2 : 2 + len(BOARDS)]] == [
        [board.device.family, board.device.name, f"({board.device.part})", board.name]
        for board in BOARDS.values()
    ]
    # Arty A7-100T: data sheet DS180 has 63,400 LUTs, 135 block RAMs, 240 DSP slices.
    cells = ["uart", "63,400", "135 x 36 Kbit", "240", "100 MHz"]
    assert ["xc7", "xc7a100t (xc7a100tcsg324-1)", "arty_a7_100t", *cells] in [
        re.split("  +", line) for line in lines
    ]
    # iCE40 UltraPlus data sheet: 5,280 LUTs, 120 kbit, 8 multipliers, 1,024 kbit; W25Q128JV: 16 MB.
    cells = ["5,280", "15 KB", "8", "128 KB", "16 MB", "4", "24 MHz", "16"]
    assert re.split("  +", lines[2]) == ["ice40", "up5k (iCE40UP5K)", "icebreaker", *cells]
    assert cli.main(["targets", "--json"]) == 0
    row, *_ = json.loads(capsys.readouterr().out)
    assert (row["target"], row["device"], row["board"]) == ("ice40", "up5k", "icebreaker")
    assert (row["flash_bytes"], row["activation_bytes"]) == (1 << 24, 1 << 17)


# ------------------------------------------------------------------------------- sim


def test_a_model_alone_gives_a_summary_and_writes_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(os.listdir())
    assert cli.main(golden("--inputs", "x.npz")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "5 inputs, engine golden"
    assert ": 0 of 15 elements differ from ONNX Runtime" in lines[1]
    assert lines[-1] == "passed"
    assert sorted(os.listdir()) == before


def test_golden_engine_prints_the_record(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(golden("--inputs", "x.npz", "--layers", "--json")) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["inputs"] == 5, "golden takes all inputs where --limit says nothing"
    assert record["cycles"] is None
    assert record["predicted_cycles"] is None
    assert record["mismatches_vs_golden"] is None
    assert record["layers"][0]["mismatches"] == 0
    assert record["accuracy"] == record["onnxruntime"]["accuracy"]
    assert set(record["onnxruntime"]["outputs"][0]) == {
        *("name", "elements", "differing", "max_steps", "max_rel_diff", "top1_agreement")
    }
    assert record["onnxruntime"]["options"]["session.qdqisint8allowed"] == "1"


def test_golden_engine_writes_the_file_of_output(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(golden("--inputs", "x.npz", "--limit", "2", "-o", "out/sim.json")) == 0
    assert json.loads((folder / "out" / "sim.json").read_text())["inputs"] == 2
    assert os.listdir(folder / "out") == ["sim.json"]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "2 inputs, engine golden"
    assert lines[-2:] == ["passed", "written to out/sim.json"]


def test_conversions_of_inputs_are_said_aloud(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(folder / "real.npz", x=np.ones((1, 2, 4, 4), np.float32))
    assert cli.main(golden("--inputs", "real.npz")) == 0
    assert "note: input 'x': float32 quantized to int8 with the model's own" in (
        capsys.readouterr().err
    )


def test_differences_from_onnxruntime_end_with_exit_code_1(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*arguments: Any) -> Any:
        return {name: codes ^ 1 for name, codes in run_graph(*arguments).items()}

    monkeypatch.setattr("qcompile.compiler.simulate.run_graph", wrong)
    assert cli.main(golden("--inputs", "x.npz", "-o", "sim.json")) == 1
    captured = capsys.readouterr()
    assert "FAILED" in captured.out
    assert "elements differ from ONNX Runtime" in captured.err
    assert (folder / "sim.json").is_file(), "the record tells what differs"


def test_the_record_of_a_build_has_the_models_own_name(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = {
        "model": {"name": "m_int8", "file": "model.onnx", "sha256": "00"},
        "inputs": [{"name": "x", "shape": [1, 2, 4, 4]}],
        "requant": "exact",
        "target": {"board": "icebreaker"},
    }
    report = json.dumps({"cycles": 100, "layers": []}).encode()
    files = {"model.onnx": (folder / "m.onnx").read_bytes(), "report.json": report}
    write_build(folder / "b", files, manifest)
    assert cli.main(["sim", "b", "--inputs", "x.npz", "--engine", "golden"]) == 0
    record = json.loads((folder / "b" / "sim.json").read_text())
    assert record["model"]["name"] == "m_int8"
    assert capsys.readouterr().out.startswith("5 inputs, engine golden\n")


def test_a_model_alone_is_no_build(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, "sim", "m.onnx", "--inputs", "x.npz") == (
        "m.onnx: is no build directory, and the Verilog is simulated from one\n"
        "  help: compile it first: qcompile m.onnx --target ice40; or add --engine golden\n"
    )


def test_options_of_the_compilation_are_refused_for_a_build(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "b").mkdir()
    message = refused(capsys, "sim", "b", "--inputs", "x.npz", "--requant", "shift")
    assert message.startswith(
        "b: --shape, --requant and --softmax were chosen when it was compiled\n"
    )


# ------------------------------------------------------------------------------- bad input


def test_missing_model_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, "no.onnx", "--target", "ice40") == (
        "no.onnx: no such file\n  help: give the path of an .onnx file\n"
    )
    assert refused(capsys, "sim", "no.onnx", "--inputs", "x.npz").startswith(
        "no.onnx: no such file or folder\n"
    )


@pytest.mark.parametrize("verb", [(), ("sim", "--engine", "golden", "--inputs", "x.npz")])
@pytest.mark.parametrize("kept", [0, 3, 700])
def test_truncated_model_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str], kept: int, verb: tuple[str, ...]
) -> None:
    (folder / "cut.onnx").write_bytes((folder / "m.onnx").read_bytes()[:kept])
    extra = () if verb else ("--target", "ice40")
    message = refused(capsys, *verb[:1], "cut.onnx", *verb[1:], *extra)
    assert message.startswith("cut.onnx: ")
    assert "\n  help: " in message


def test_external_data_outside_the_folder_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = load(folder / "m.onnx")
    tensor = next(t for t in model.graph.initializer if t.data_type == TensorProto.INT8 and t.dims)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret.bin")
    (folder / "evil.onnx").write_bytes(model.SerializeToString())
    message = refused(capsys, "evil.onnx", "--target", "ice40")
    assert message.startswith("evil.onnx: ")
    assert "../secret.bin" in message


def test_unsupported_operators_are_all_listed(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nodes = [
        helper.make_node("Cos", ["x"], ["a"], name="first"),
        helper.make_node("Sin", ["a"], ["y"], name="second"),
    ]
    infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 4]) for n in "xy"]
    graph = helper.make_graph(nodes, "g", infos[:1], infos[1:])
    opset = [helper.make_opsetid("", 13)]
    save(helper.make_model(graph, opset_imports=opset, ir_version=8), folder / "wave.onnx")
    message = refused(capsys, "wave.onnx", "--target", "ice40")
    assert "Cos 'first'" in message
    assert "Sin 'second'" in message


def test_symbolic_dimension_names_the_option(
    folder: Path, capsys: pytest.CaptureFixture[str], rng: np.random.Generator
) -> None:
    network = Network()
    x = network.input("x", "int8", ["N", 2, "H", 4])
    y = random_conv(network, rng, x, (3, 2, 4, 4), ((0.02, -3, "int8"), (0.05, 5, "int8")))
    network.output(y, "int8")
    network.save(folder / "open.onnx")
    message = refused(capsys, "open.onnx", "--target", "ice40")
    assert "--shape 'x=1,2,H,4'" in message
    command = ("sim", "open.onnx", "--engine", "golden", "--inputs", "x.npz")
    assert cli.main([*command, "--shape", "x=1,2,4,4"]) == 0


@pytest.mark.parametrize(
    ("arrays", "start"),
    [
        ({"x": np.zeros((2, 4, 4, 2), np.int8)}, "x2.npz: array 'x' is int8[2,4,4,2], but input"),
        ({"x": np.zeros((2, 2, 4, 4))}, "x2.npz: array 'x' is float64[2,2,4,4], but input"),
        ({"z": np.zeros((2, 2, 4, 4), np.int8)}, "x2.npz: no array for the model's input 'x'"),
    ],
)
def test_inputs_that_do_not_fit_are_named(
    folder: Path, capsys: pytest.CaptureFixture[str], arrays: dict[str, Any], start: str
) -> None:
    np.savez(folder / "x2.npz", **arrays)
    assert refused(capsys, *golden("--inputs", "x2.npz", "-o", "sim.json")).startswith(start)


def test_missing_inputs_are_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, *golden("--inputs", "no.npz")).startswith("no.npz: no such file\n")


def test_a_folder_of_another_model_is_refused_before_any_work(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_build(folder / "b", {}, {"model": {"name": "other", "file": "f", "sha256": "00" * 32}})
    message = refused(capsys, "m.onnx", "--target", "ice40", "-o", "b")
    assert message == (
        "b: holds a build of another model\n"
        "  it is 'other' with sha256 0000000000000000...\n"
        "  help: replace it with --force, or choose another folder with -o\n"
    )


def test_a_folder_that_is_no_build_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "b").mkdir()
    for command in (
        ("sim", "b", "--inputs", "x.npz"),
        ("run", "b", "--inputs", "x.npz", "--port", "sim"),
        ("flash", "b", "--dry-run"),
    ):
        message = refused(capsys, *command)
        assert message.startswith("b: is no build")
        assert "\n  help: " in message


def test_unknown_target_and_board_list_what_there_is(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert misused(capsys, "m.onnx", "--target", "ecp5").startswith(
        "--target ecp5: no such device family\n  help: choose one of ice40, xc7"
    )
    known = f" one of {', '.join(sorted(targets.BOARDS))}"
    assert misused(capsys, "m.onnx", "--target", "ice40", "--board", "fomu") == (
        f"--board fomu: no such board\n  help: choose{known}; `qcompile targets` lists devices and "
        "boards\n"
    )
    assert misused(capsys, "check", "m.onnx", "--device", "lp1k").startswith(
        "--device lp1k: no such device\n  help: choose"
    )


def test_a_bitstream_for_a_device_without_place_and_route_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    part = replace(UP5K, part="XC7A35T", place_and_route=False)
    board = replace(BOARDS["icebreaker"], name="arty", device=part)
    monkeypatch.setitem(BOARDS, "arty", board)
    assert misused(capsys, "m.onnx", "--board", "arty") == (
        "arty: no tool here places and routes an XC7A35T\n"
        "  help: add --no-bitstream for Verilog, program and report\n"
    )
    assert cli.main(["targets"]) == 0
    assert "\nno bitstream: arty\n" in capsys.readouterr().out


def test_run_needs_inputs_or_the_selftest(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert misused(capsys, "run", "b", "--port", "sim") == (
        "run needs inputs\n  help: add --inputs X.npz, or --selftest\n"
    )


def test_a_first_word_that_is_nothing_is_a_slip_of_a_verb(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert usage_error(capsys, "smi", "b", "--inputs", "x.npz") == (
        "qcompile: error: no such verb or file: 'smi'; is it 'sim'?"
    )
    assert usage_error(capsys, "digits") == "qcompile: error: no such verb or file: 'digits'"


def test_unknown_options_come_with_the_usage_of_their_verb(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as raised:
        cli.main(["run", "b", "--port", "sim", "--layers"])
    assert raised.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith("usage: qcompile run ")
    assert message.endswith("qcompile run: error: unrecognized arguments: --layers\n")


def test_labels_that_are_no_classes_are_named(
    folder: Path, capsys: pytest.CaptureFixture[str], rng: np.random.Generator
) -> None:
    network = Network()
    x = network.input("x", "int8", [1, 2, 4, 4])
    y = random_conv(network, rng, x, (3, 2, 4, 4), ((0.02, -3, "int8"), (0.05, 5, "int8")))
    network.output(y, "int8")
    network.save(folder / "c.onnx")
    np.savez(folder / "l.npz", x=np.zeros((3, 2, 4, 4), np.int8), y=[1, 2, 3])
    message = refused(capsys, *golden("--inputs", "l.npz"))
    assert message.startswith(f"l.npz: labels 'y' go from 1 to 3, but output '{y}' has the classes")


@pytest.mark.parametrize("package", ["onnx", "onnxruntime", "rich", "numpy"])
def test_a_package_that_is_missing_is_one_message(folder: Path, package: str) -> None:
    program = (
        f"import sys; sys.modules['{package}'] = None\n"
        "from qcompile.compiler import cli; sys.exit(cli.main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", program, *golden("--inputs", "x.npz")]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    message, help = result.stderr.splitlines()[-2:]
    assert message == f"the package {package} is needed for this and is not installed"
    assert re.fullmatch(
        rf"  help: \S+ -m pip install '?{package}\S+; `qcompile doctor` lists .*", help
    )


def test_wrong_usage_ends_with_exit_code_2(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert misused(capsys, "m.onnx").startswith(
        "no target is given\n  help: add --target ice40, xc7, --device up5k"
    )
    assert usage_error(capsys, "m.onnx", "--target", "ice40", "--shape", "x=a").endswith(
        "argument --shape: 'x=a' is not of the form NAME=1,3,224,224"
    )
    assert usage_error(capsys, *golden("--inputs", "x.npz", "--limit", "0")).endswith(
        "argument --limit: '0' is not a whole number of 1 or more"
    )
    assert usage_error(capsys, *golden("--inputs", "x.npz", "--mean", "a,b")).endswith(
        "argument --mean: 'a,b' is not a number or a list such as 0.48,0.45,0.4"
    )


@pytest.mark.parametrize("where", ["model", "inputs", "output"])
def test_a_path_that_is_too_long_is_one_message(
    folder: Path, capsys: pytest.CaptureFixture[str], where: str
) -> None:
    long = "n" * 300
    commands = {
        "model": (f"{long}.onnx", "--target", "ice40"),
        "inputs": golden("--inputs", long),
        "output": golden("--inputs", "x.npz", "-o", long),
    }
    assert cli.main(commands[where]) == 1
    message = capsys.readouterr().err
    assert "File name too long" in message
    assert "Traceback" not in message


def test_a_full_disk_is_one_message() -> None:
    command = f"{QCOMPILE} targets > /dev/full"
    result = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr == "output: No space left on device\n"


@pytest.mark.parametrize("name", ["accelerator.v", "model.onnx", "top.v/w.bin"])
def test_external_data_named_as_a_part_of_the_build_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    model = load(folder / "m.onnx")
    (folder / "src" / name).parent.mkdir(parents=True)
    save_model(
        model,
        folder / "src" / "net.onnx",
        save_as_external_data=True,
        location=name,
        size_threshold=0,
    )
    message = refused(capsys, "src/net.onnx", "--target", "ice40", "-o", "b")
    assert message == (
        f"net.onnx: its external data lies in '{name}', which is a name of the build's\n"
        "  help: save the model again with another location for its data\n"
    )


# ------------------------------------------------------------------------------- being stopped


def test_interruption_leaves_nothing_behind(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("qcompile.compiler.simulate.run_graph", interrupted)
    before = sorted(os.listdir())
    assert cli.main(golden("--inputs", "x.npz", "-o", "sim.json")) == 130
    assert sorted(os.listdir()) == before
    assert capsys.readouterr().err.endswith("interrupted\n")


def test_an_interruption_that_a_library_wraps_is_one_too(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any) -> Any:
        raise ImportError("initialization failed") from KeyboardInterrupt()

    monkeypatch.setattr("qcompile.compiler.simulate.run_graph", interrupted)
    assert cli.main(golden("--inputs", "x.npz")) == 130
    assert capsys.readouterr().err.endswith("interrupted\n")


def test_our_own_bugs_keep_their_traceback(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: Any) -> Any:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("qcompile.compiler.simulate.run_graph", broken)
    with pytest.raises(ZeroDivisionError, match=r"^a bug$"):
        cli.main(golden("--inputs", "x.npz"))


def test_a_reader_that_goes_away_is_no_error(folder: Path) -> None:
    command = f"{QCOMPILE} {' '.join(golden('--inputs', 'x.npz'))} | true"
    result = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert "Traceback" not in result.stderr
    assert "Exception ignored" not in result.stderr
