"""Accuracy against logic cells of every scheme's whole design, on two iCE40 devices.

    pip install -e ".[plot]"
    python examples/quantization/plot.py --measure   # quantize, place and route, docs/schemes.json
    python examples/quantization/plot.py             # docs/schemes.png from docs/schemes.json

Accuracy is the golden model's on the images that neither trained nor calibrated. Logic cells and
the clock are nextpnr-ice40's, of the bitstream that `qcompile` makes.
"""

# pyright: reportMissingImports=false
# matplotlib comes with the extra `plot`, which the checks of this project do not install.

from __future__ import annotations

import argparse
import importlib
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from steps import BUILD, PROJECT, Requant, float_accuracy, golden_accuracy, held_out, qcompile

SCHEMES = ("affine", "shift", "f8net", "dpu", "ternary", "binary", "codebook", "log")
DEVICES = {"hx8k": "iCE40HX8K: no DSP blocks", "up5k": "iCE40UP5K: 8 DSP blocks"}
FIGURES = PROJECT / "docs/schemes.json"
PICTURE = PROJECT / "docs/schemes.png"
NEAR = 200
"""Logic cells between two points whose labels would meet."""
COLOURS = {"exact": "tab:blue", "shift": "tab:green", "codebook": "tab:orange", "log": "tab:red"}
UNITS = {
    "exact": "int8 array, 24-bit factor at each output",
    "shift": "int8 array, shift at each output",
    "codebook": "the same with weights as 4-bit indices",
    "log": "array of shifts",
}


def measure() -> dict[str, Any]:
    """Quantize with every script, and place and route each model on each device."""
    rows = [measure_scheme(name) for name in SCHEMES]
    return {"images": len(held_out()[1]), "float": float_accuracy(), "schemes": rows}


def measure_scheme(name: str) -> dict[str, Any]:
    """One scheme's accuracy and its designs."""
    script = importlib.import_module(name)
    BUILD.mkdir(parents=True, exist_ok=True)
    path, requant = script.quantized(BUILD), script.REQUANT
    designs = {device: measure_design(path, requant, device) for device in DEVICES}
    accuracy = golden_accuracy(path, requant)
    return {"scheme": name, "requant": requant, "accuracy": accuracy, "designs": designs}


def measure_design(path: Path, requant: Requant, device: str) -> dict[str, Any]:
    """What the report of one compilation says; bitstreams of the same hardware are made once."""
    build = BUILD / f"{path.stem}_{device}"
    qcompile("compile", path, "--device", device, "--requant", requant, "-o", build, "--force")
    report, manifest = (
        json.loads((build / name).read_text()) for name in ("report.json", "manifest.json")
    )
    return {
        "unit": unit(manifest["configuration"]),
        "sum_bits": manifest["configuration"]["acc_width"],
        "logic_cells": report["resources"]["lut"]["used"],
        "fmax_mhz": round(report["fmax_mhz"], 2),
        "cycles": report["cycles"],
        "flash_bytes": (build / "flash.bin").stat().st_size,
    }


def unit(configuration: dict[str, Any]) -> str:
    """The kind of hardware, one of UNITS, that the compiler chose for a model."""
    if configuration["pe"] == "log":
        return "log"
    return "codebook" if configuration["codebook"] else configuration["requant"]


def draw(figures: dict[str, Any]) -> None:
    """One panel a device; schemes at the same point share a label."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.lines import Line2D

    canvas, panels = pyplot.subplots(1, len(DEVICES), figsize=(10, 4.2), sharey=True)
    for panel, (device, title) in zip(panels, DEVICES.items(), strict=True):
        names: dict[tuple[float, float], list[str]] = defaultdict(list)
        for row in figures["schemes"]:
            design = row["designs"][device]
            point = design["logic_cells"], 100 * row["accuracy"]
            panel.scatter(*point, s=60, color=COLOURS[design["unit"]], zorder=3)
            names[point].append(row["scheme"])
        for (x, y), schemes in names.items():
            # To the right, unless a neighbour as accurate is there.
            right = not any(0 < other - x < NEAR and y == level for other, level in names)
            offset = {"xytext": (7 if right else -7, 0), "textcoords": "offset points"}
            side = {"ha": "left" if right else "right", "va": "center_baseline"}
            paper = {"facecolor": "white", "edgecolor": "none", "pad": 1}
            panel.annotate(", ".join(schemes), (x, y), bbox=paper, **offset, **side)
        panel.axhline(100 * figures["float"], color="gray", linestyle="--", linewidth=1)
        panel.set(title=title, xlabel="logic cells of the whole design")
        panel.margins(x=0.3, y=0.25)
        panel.grid(alpha=0.3)
    panels[0].set_ylabel(f"accuracy of {figures['images']} images, %")
    marks = [
        Line2D([], [], marker="o", linestyle="", color=COLOURS[name], label=text)
        for name, text in UNITS.items()
    ]
    marks.append(Line2D([], [], color="gray", linestyle="--", label="float"))
    canvas.legend(handles=marks, loc="lower center", ncols=3, frameon=False)
    canvas.tight_layout(rect=(0, 0.13, 1, 1))
    canvas.savefig(PICTURE, dpi=100, metadata={"Software": None})


def table(figures: dict[str, Any]) -> str:
    """The figures as Markdown."""
    lines = [
        "| scheme | accuracy | HX8K LC | MHz | cycles | UP5K LC | MHz | cycles | flash bytes |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in figures["schemes"]:
        cells = [row["scheme"], f"{row['accuracy']:.4f}"]
        for device in DEVICES:
            design = row["designs"][device]
            cells += [f"{design['logic_cells']:,}", f"{design['fmax_mhz']:.1f}"]
            cells.append(f"{design['cycles']:,}")
        cells.append(f"{row['designs']['up5k']['flash_bytes']:,}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure where asked, draw, print the table."""
    parser = argparse.ArgumentParser(description="accuracy against logic cells")
    parser.add_argument("--measure", action="store_true", help="quantize, place and route anew")
    if parser.parse_args().measure:
        FIGURES.write_text(json.dumps(measure(), indent=2) + "\n")
    figures = json.loads(FIGURES.read_text())
    draw(figures)
    print(table(figures))


if __name__ == "__main__":
    main()
