"""Every network that others trained, on devices: does it fit, is it right, how many cycles.

    python -m sim_tests.bench                           # all networks on UP5K, about 15 minutes
    python -m sim_tests.bench --device up5k mlpt_ic_resnet8 mlpt_vww_mbv1_025
    python -m sim_tests.bench --device xc7a100t --device xc7a35t --figures   # with a figure there
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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from qcompile.compiler.errors import QcompileError
from sim_tests.zoo import MUSTS, PROJECT, SHARED, networks, save_inputs

QCOMPILE = Path(sys.executable).parent / "qcompile"
DEVICES = ("up5k",)


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
    array : str
        Rows x columns, as the compiler chose them.
    macs_per_cycle : int
    depthwise : float
        Utilisation of the depthwise layers together, by their measured cycles.
    resources : mapping
        Share of the device by kind, as the report has it.
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
    array: str = ""
    macs_per_cycle: int = 0
    depthwise: float = 0.0
    resources: Mapping[str, float] = field(default_factory=dict)
    passed: bool = True

    @property
    def must(self) -> int | None:
        """Cycles that it may take at most, where that is said."""
        return MUSTS.get((self.network, self.device))


def _qcompile(*words: str | Path) -> tuple[int, str]:
    """Exit code, and what went wrong in words."""
    command = [str(QCOMPILE), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line for line in done.stderr.splitlines() if not line.lstrip()[:1].isdigit()]
    return done.returncode, "\n".join(lines)


def measure(path: Path, device: str, folder: Path, count: int, more: Sequence[str] = ()) -> Row:
    """Compile a network with `more` options, simulate the Verilog, compare every layer."""
    build = folder / device / path.stem
    where = ("--device", device, *more)
    code, told = _qcompile(path, *where, "--no-bitstream", "--force", "-o", build)
    if code:
        return Row(network=path.stem, device=device, problem=told)
    report = json.loads((build / "report.json").read_text())
    row = _simulate(path, device, folder, count, build, ("--layers",))
    array, resources = report["array"], report["resources"] or {}
    sim = folder / f"{path.stem}.{device}.json"
    return replace(
        row,
        macs=report["model"]["macs"],
        array=f"{array['rows']} x {array['columns']}",
        macs_per_cycle=array["macs_per_cycle"],
        depthwise=_depthwise(report, json.loads(sim.read_text())) if sim.exists() else 0.0,
        resources={name: cell["used"] / cell["total"] for name, cell in resources.items()},
        passed=row.passed and (row.must is None or row.first <= row.must),
    )


def _depthwise(report: Mapping[str, Any], sim: Mapping[str, Any]) -> float:
    """Utilisation of all depthwise layers together, the first input's cycles."""
    cycles = {layer["name"]: layer["cycles"][0] for layer in sim["layer_cycles"]}
    chosen = [layer for layer in report["layers"] if layer["depthwise"] and layer["macs"]]
    peak = report["array"]["macs_per_cycle"] * sum(cycles[layer["name"]] for layer in chosen)
    return sum(layer["macs"] for layer in chosen) / peak if peak else 0.0


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


HEADS = (
    *("array", "MACs", "cycles", "at most", "later inputs", "predicted", "busy", "depthwise"),
    *("LUT DSP BRAM", "layers", "wrong", "ONNX Runtime", "islands", ""),
)


def table(rows: Sequence[Row]) -> Table:
    """A line for each row."""
    result = Table("network", "device", box=box.SIMPLE_HEAD)
    for head in HEADS:
        result.add_column(head, justify="right")
    for row in rows:
        if row.problem:
            result.add_row(row.network, row.device, *[""] * (len(HEADS) - 1), "refused")
            continue
        numbers = [f"{n:,}" if n else "" for n in (row.macs, row.first, row.must, row.later)]
        share = f"{row.macs / (row.macs_per_cycle * row.first):.1%}" if row.first else ""
        cells = " ".join(f"{row.resources.get(kind, 0):.0%}" for kind in ("lut", "dsp", "bram36"))
        result.add_row(
            row.network,
            row.device,
            row.array,
            *numbers,
            f"{row.predicted:,}",
            share,
            f"{row.depthwise:.1%}" if row.depthwise else "",
            cells if "bram36" in row.resources else "",
            str(row.layers),
            str(row.wrong),
            f"{row.differing:,} of {row.outputs:,}",
            str(row.islands),
            "passed" if row.passed else "FAILED",
        )
    return result


def chosen_networks(arguments: argparse.Namespace, device: str) -> list[Path]:
    """Those asked for, those with a figure on the device, or all."""
    named: set[str] = set(arguments.network)
    if arguments.figures:
        named |= {network for network, other in MUSTS if other == device}
    return [path for path in networks() if path.stem in named or not named]


def measured(arguments: argparse.Namespace, console: Console) -> Iterator[Row]:
    """Row after row, each named when it begins."""
    more = ["--dsp", arguments.dsp] if arguments.dsp else []
    more += ["--synth"] if arguments.synth else []
    for device in arguments.device or DEVICES:
        chosen = chosen_networks(arguments, device)
        for number, path in enumerate(chosen, 1):
            console.print(f"{device}: {number} of {len(chosen)}: {path.stem}", highlight=False)
            if arguments.golden:
                yield measure_golden(path, arguments.folder, arguments.inputs)
            else:
                yield measure(path, device, arguments.folder, arguments.inputs, more)


def main() -> None:
    """Measure, print the table, write it as JSON too."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("network", nargs="*", help="names without .onnx (default: all)")
    parser.add_argument(
        "--device", action="append", help="as `qcompile targets` names it (default: up5k)"
    )
    parser.add_argument("--figures", action="store_true", help="networks with a figure to reach")
    parser.add_argument("--dsp", help="how multipliers are written (xc7)")
    parser.add_argument("--synth", action="store_true", help="Yosys counts the cells (xc7)")
    parser.add_argument("--golden", action="store_true", help="golden alone, no hardware")
    parser.add_argument("--inputs", type=int, default=3, help="how many (default: 3)")
    parser.add_argument("--folder", type=Path, default=PROJECT / "build" / "bench")
    arguments = parser.parse_args()
    names = {path.stem for path in networks()}
    unknown = sorted(set(arguments.network) - names)
    if unknown or not names:
        parser.error(f"no such network: {', '.join(unknown)}" if names else f"no {SHARED}/models")
    rows = list(measured(arguments, Console(stderr=True)))
    Console(width=None if sys.stdout.isatty() else 200).print(table(rows))
    for row in rows:
        if row.problem:
            print(f"{row.network}:", row.problem, "", sep="\n")
    name = "golden" if arguments.golden else "-".join(arguments.device or DEVICES)
    target = arguments.folder / f"{name}.json"
    target.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    print(f"written to {target}")
    sys.exit(int(not all(row.passed for row in rows)))


if __name__ == "__main__":
    main()
