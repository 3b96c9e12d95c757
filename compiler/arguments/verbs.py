"""Options of the verbs that take int8 models and builds."""

from __future__ import annotations

import argparse
from pathlib import Path

from qcompile.compiler.arguments.common import (
    add_input_options,
    add_json,
    add_model_options,
    add_seed,
    add_target_options,
)
from qcompile.runtime.options import PORT_HELP


def add_compile(parser: argparse.ArgumentParser) -> None:
    """Of compile."""
    parser.add_argument("model", type=Path, metavar="MODEL.onnx")
    add_target_options(parser)
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="default: build/NAME")
    add_model_options(parser)
    parser.add_argument("--no-bitstream", action="store_true", help="stop at the Verilog")
    parser.add_argument(
        "--synth",
        action="store_true",
        help="count LUTs and the like with Yosys, which takes minutes, once a design; xc7 only",
    )
    parser.add_argument("--force", action="store_true", help="replace a build of another model")
    parser.add_argument("--dump-after", metavar="PASS", help="print the graph after a pass")
    add_json(parser)


def add_check(parser: argparse.ArgumentParser) -> None:
    """Of check."""
    parser.add_argument("model", type=Path, metavar="MODEL.onnx")
    add_target_options(parser)
    add_model_options(parser)
    add_json(parser)


def add_sim(parser: argparse.ArgumentParser) -> None:
    """Of sim."""
    parser.add_argument("subject", type=Path, metavar="DIR|MODEL.onnx")
    add_input_options(parser, required=True)
    parser.add_argument("--layers", action="store_true", help="compare every layer's tensor")
    parser.add_argument(
        "--engine",
        choices=("verilator", "golden"),
        default="verilator",
        help="what computes: the Verilog (default; 3 inputs), or golden alone (all inputs)",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="the record; default: DIR/sim.json, whichever the engine; of a model alone: nowhere",
    )
    add_model_options(parser)
    add_seed(parser)
    add_json(parser)


def add_run(parser: argparse.ArgumentParser) -> None:
    """Of run."""
    parser.add_argument("build", type=Path, metavar="DIR")
    add_input_options(parser, required=False)
    parser.add_argument("--port", required=True, help=f"sim for the simulated board, {PORT_HELP}")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="write the outputs to this npz file"
    )
    parser.add_argument(
        "--selftest", action="store_true", help="replay the build's golden vectors on the board"
    )
    add_seed(parser)
    add_json(parser)


def add_flash(parser: argparse.ArgumentParser) -> None:
    """Of flash."""
    parser.add_argument("build", type=Path, metavar="DIR")
    parser.add_argument("--board", help="default: the build's own")
    parser.add_argument("--dry-run", action="store_true", help="print the commands only")
