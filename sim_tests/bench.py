"""Every network that others trained, on a device: does it fit, is it right, how many cycles.

    python -m sim_tests.bench                           # all networks on UP5K, about 15 minutes
    python -m sim_tests.bench --device up5k mlpt_ic_resnet8 mlpt_vww_mbv1_025
    python -m sim_tests.bench --golden                  # golden against ONNX Runtime alone

The networks and their real inputs lie in a folder `shared` beside the project. Where no real inputs
fit, random ones take their place: codes over their whole range, or normal numbers. A network that
does not fit is named with what it lacks. Exit code 1 when anything differs that must not.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich import box
from rich.console import Console
from rich.table import Table

from qcompile.compiler.errors import QcompileError
from qcompile.compiler.pipeline import load_model
from sim_tests.compiler.agreement import Inputs, random_inputs

PROJECT = Path(__file__).resolve().parent.parent
SHARED = PROJECT.parent / "shared"
QCOMPILE = Path(sys.executable).parent / "qcompile"
SEED = 7

REAL = {
    "mlpt_kws_dscnn": "kws01",
    "tflm_micro_speech": "micro_speech2",
    "tflm_person_detect": "person_bmp2",
    "qonnx_kws_mlp_w3a3_v07_qcdq": "kws_finn400",
    "ort_mnist_qdq_u8u8": "mnist2k",
    "qonnx_TFC_2W2A_qcdq": "mnist2k",
    "coral_mobilenet_v2_1.0_224_quant": "coral4_224",
}
"""Data that a network takes as it is, or divided by what `DIVISORS` says."""
DIVISORS = {"qonnx_TFC_2W2A_qcdq": 255}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One network on one device.

    Attributes
    ----------
    network, device : str
        `device` is "golden" where golden ran alone.
    problem : str
        Why there is nothing else; empty where it ran.
    macs, first, later, predicted : int
        `first` cycles with an empty weight FIFO, `later` the most of the inputs behind it.
    layers, elements : int
        Tensors compared with golden.
    wrong : int
        Elements that differ from golden; with golden alone, from ONNX Runtime in outputs that must
        be equal.
    differing, outputs : int
        Output elements that differ from ONNX Runtime, of so many.
    islands : int
        Tensors that ONNX Runtime computes in float.
    """

    network: str
    device: str
    problem: str = ""
    macs: int = 0
    first: int = 0
    later: int = 0
    predicted: int = 0
    layers: int = 0
    elements: int = 0
    wrong: int = 0
    differing: int = 0
    outputs: int = 0
    islands: int = 0
    passed: bool = True


def networks() -> list[Path]:
    """The networks beside the project, by name."""
    return sorted((SHARED / "models").glob("*.onnx"))


def real_inputs(path: Path, count: int) -> Inputs | None:
    """Real inputs in the model's own shape; None where there are none."""
    if path.stem not in REAL:
        return None
    (value,) = load_model(path).inputs
    x: npt.NDArray[Any] = np.load(SHARED / "data" / f"{REAL[path.stem]}.npz")["x"][:count]
    if value.dtype == "float32":
        x = (x / DIVISORS.get(path.stem, 1)).astype(np.float32)
    return {value.name: x.reshape(len(x), *value.shape[1:])}


def save_inputs(path: Path, folder: Path, count: int) -> Path:
    """Real or random inputs as an npz file."""
    inputs = real_inputs(path, count)
    if inputs is None:
        inputs = random_inputs(load_model(path), np.random.default_rng(SEED), count)
    target = folder / f"{path.stem}.npz"
    np.savez(target, allow_pickle=False, **inputs)
    return target


def _qcompile(*words: str | Path) -> tuple[int, str]:
    """Exit code, and what went wrong in words."""
    command = [str(QCOMPILE), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line for line in done.stderr.splitlines() if not line.lstrip()[:1].isdigit()]
    return done.returncode, "\n".join(lines)


def measure(path: Path, device: str, folder: Path, count: int) -> Row:
    """Compile a network, simulate the Verilog, compare every layer."""
    build = folder / device / path.stem
    where = ("--target", "ice40", "--device", device)
    code, told = _qcompile(path, *where, "--no-bitstream", "--force", "-o", build)
    if code:
        return Row(network=path.stem, device=device, problem=told)
    report = json.loads((build / "report.json").read_text())
    row = _simulate(path, device, folder, count, build, ("--layers",))
    return Row(**{**asdict(row), "macs": report["model"]["macs"]})


def measure_golden(path: Path, folder: Path, count: int) -> Row:
    """Golden alone against ONNX Runtime."""
    return _simulate(path, "golden", folder, count, path, ("--engine", "golden"))


def _simulate(
    path: Path, device: str, folder: Path, count: int, subject: Path, options: Sequence[str]
) -> Row:
    folder.mkdir(parents=True, exist_ok=True)
    try:
        inputs = save_inputs(path, folder, count)
    except QcompileError as error:
        return Row(network=path.stem, device=device, problem=str(error))
    sim = folder / f"{path.stem}.{device}.json"
    sim.unlink(missing_ok=True)
    limit = ("--limit", str(count))
    code, told = _qcompile("sim", subject, "--inputs", inputs, *limit, *options, "-o", sim)
    if not sim.exists():
        return Row(network=path.stem, device=device, problem=told, passed=False)
    return _row(path.stem, device, json.loads(sim.read_text()), passed=code == 0)


def _row(name: str, device: str, record: dict[str, Any], *, passed: bool) -> Row:
    cycles, layers = record["cycles"] or [0], record["layers"]
    outputs = record["onnxruntime"]["outputs"]
    return Row(
        network=name,
        device=device,
        first=cycles[0],
        later=max(cycles[1:], default=cycles[0]),
        predicted=record["predicted_cycles"] or 0,
        layers=len(layers),
        elements=sum(layer["elements"] for layer in layers),
        wrong=record["mismatches_vs_golden"] or 0,
        differing=sum(output["differing"] for output in outputs),
        outputs=sum(output["elements"] for output in outputs),
        islands=len(record["onnxruntime"]["float_islands"]),
        passed=passed,
    )


def table(rows: Sequence[Row]) -> Table:
    """A line for each row."""
    heads = ("MACs", "cycles", "later inputs", "predicted", "array", "layers", "wrong")
    result = Table("network", "device", box=box.SIMPLE_HEAD)
    for head in (*heads, "ONNX Runtime", "islands", ""):
        result.add_column(head, justify="right")
    for row in rows:
        if row.problem:
            result.add_row(row.network, row.device, *[""] * (len(heads) + 2), "refused")
            continue
        share = f"{row.macs / (16 * row.first):.1%}" if row.first else ""
        cells = [f"{number:,}" for number in (row.macs, row.first, row.later, row.predicted)]
        more = [share, str(row.layers), str(row.wrong), f"{row.differing:,} of {row.outputs:,}"]
        verdict = "passed" if row.passed else "FAILED"
        result.add_row(row.network, row.device, *cells, *more, str(row.islands), verdict)
    return result


def measured(arguments: argparse.Namespace, console: Console) -> Iterator[Row]:
    """Row after row, each named when it begins."""
    chosen = [path for path in networks() if path.stem in (arguments.network or [path.stem])]
    for number, path in enumerate(chosen, 1):
        console.print(f"{number} of {len(chosen)}: {path.stem}", highlight=False)
        if arguments.golden:
            yield measure_golden(path, arguments.folder, arguments.inputs)
        else:
            yield measure(path, arguments.device, arguments.folder, arguments.inputs)


def main() -> None:
    """Measure, print the table, write it as JSON too."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("network", nargs="*", help="names without .onnx (default: all)")
    parser.add_argument("--device", default="up5k", help="as `qcompile targets` names it")
    parser.add_argument("--golden", action="store_true", help="golden alone, no hardware")
    parser.add_argument("--inputs", type=int, default=3, help="how many (default: 3)")
    parser.add_argument("--folder", type=Path, default=PROJECT / "build" / "bench")
    arguments = parser.parse_args()
    names = {path.stem for path in networks()}
    unknown = sorted(set(arguments.network) - names)
    if unknown or not names:
        parser.error(f"no such network: {', '.join(unknown)}" if names else f"no {SHARED}/models")
    rows = list(measured(arguments, Console(stderr=True)))
    Console(width=None if sys.stdout.isatty() else 180).print(table(rows))
    for row in rows:
        if row.problem:
            print(f"{row.network}:", row.problem, "", sep="\n")
    target = arguments.folder / ("golden.json" if arguments.golden else f"{arguments.device}.json")
    target.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    print(f"written to {target}")
    sys.exit(int(not all(row.passed for row in rows)))


if __name__ == "__main__":
    main()
