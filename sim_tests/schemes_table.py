"""The table of docs/quantization.md: `python -m sim_tests.schemes_table`.

Accuracy of every scheme on three float networks with real data, calibrated on the first 200 inputs
and measured on the others, and how many elements of the outputs golden and ONNX Runtime have
different over all inputs: with --requant shift where the scheme is made for it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Literal

from sim_tests.compiler.quantized_models import (
    CALIBRATION,
    accuracies,
    differences,
    network_of,
    quantized,
)

SHARED = Path(__file__).resolve().parents[2] / "shared"
NETWORKS = ("digits", "mnist", "keywords")
SHIFTS = ("shift", "f8net", "dpu")
SEARCHED: dict[str, Any] = {"rounding": "search", "bias_correction": True}
SEARCHED_INNER = SEARCHED | {"int8_depthwise": True}
ROWS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("--scheme affine", {}),
    ("--scheme shift", {}),
    ("--scheme shift --bias-correction", {"bias_correction": True}),
    ("--scheme f8net --fl std", {"fl": "std"}),
    ("--scheme f8net --fl grid", {"fl": "grid"}),
    ("--scheme f8net --fl std --equalize weights", {"fl": "std", "equalize": "weights"}),
    ("--scheme f8net --fl grid --equalize weights", {"fl": "grid", "equalize": "weights"}),
    ("--scheme f8net --bias-correction", {"bias_correction": True}),
    (
        "--scheme f8net --equalize weights --rounding search --bias-correction",
        {"equalize": "weights", "rounding": "search", "bias_correction": True},
    ),
    ("--scheme dpu", {}),
    ("--scheme dpu --equalize weights", {"equalize": "weights"}),
    ("--scheme ternary", {}),
    ("--scheme ternary --bias-correction", {"bias_correction": True}),
    (
        "--scheme ternary --bias-correction --int8-depthwise",
        {"bias_correction": True, "int8_depthwise": True},
    ),
    ("--scheme ternary --rounding search --bias-correction", SEARCHED),
    ("--scheme ternary --rounding search --bias-correction --int8-depthwise", SEARCHED_INNER),
    ("--scheme binary --bias-correction", {"bias_correction": True}),
    (
        "--scheme binary --bias-correction --int8-depthwise",
        {"bias_correction": True, "int8_depthwise": True},
    ),
    ("--scheme binary --rounding search --bias-correction", SEARCHED),
    ("--scheme binary --rounding search --bias-correction --int8-depthwise", SEARCHED_INNER),
    ("--scheme xnor", {}),
    ("--scheme xnor --int8-depthwise", {"int8_depthwise": True}),
)


def main() -> None:
    """Print the table in Markdown, a row as it is done."""
    given = {name: network_of(name, SHARED) for name in NETWORKS}
    print(f"| options | {' | '.join(NETWORKS)} | differences |\n|---{'|---' * 4}|")
    for row, (words, options) in enumerate(ROWS):
        scheme = words.split()[1]
        cells, differing, floats = [], [], []
        for path, inputs, labels in given.values():
            model = quantized(path, inputs[:CALIBRATION], scheme=scheme, **options).model
            before, after = accuracies(path, inputs, labels, model)
            floats.append(f"{before:.4f}")
            cells.append(f"{after:.4f}")
            with tempfile.TemporaryDirectory() as folder:
                requant: Literal["exact", "shift"] = "shift" if scheme in SHIFTS else "exact"
                differing.append(str(differences(model, inputs, Path(folder), requant=requant)))
        if row == 0:
            print(f"| float | {' | '.join(floats)} | |")
        print(f"| `{words}` | {' | '.join(cells)} | {', '.join(differing)} |", flush=True)


if __name__ == "__main__":
    main()
