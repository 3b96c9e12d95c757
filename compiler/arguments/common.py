"""Options that several verbs share, and the types of their values."""

from __future__ import annotations

import argparse
from pathlib import Path

from qcompile.runtime.options import parse_numbers, positive, shown


def add_json(parser: argparse.ArgumentParser) -> None:
    """Of verbs that print a table."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def add_target_options(parser: argparse.ArgumentParser) -> None:
    """What the hardware is to be."""
    parser.add_argument("--target", help="device family: its first device and board")
    parser.add_argument("--device", help="device: its first board; see `qcompile targets`")
    parser.add_argument("--board", help="board, which has its device")
    sizes = {"rows": "a multiple of 4 up to 32", "columns": "16 or 8"}
    for name, which in sizes.items():
        parser.add_argument(
            f"--{name}", type=positive, metavar="N", help=f"of the array, {which}; xc7 only"
        )
    parser.add_argument(
        "--clock", type=clock_mhz, metavar="MHZ", help="of the array, 1 to 1000; xc7 only"
    )
    parser.add_argument(
        "--dsp",
        choices=("inferred", "instance", "none"),
        help="multipliers that tools find (default), written as DSP48E1, or all in logic; xc7 only",
    )
    parser.add_argument(
        "--pe",
        choices=("int8", "log"),
        help="the array's elements, multipliers or shifts; ice40 only, and what the model's"
        " activations need (default)",
    )


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """How a model is read."""
    parser.add_argument(
        "--requant",
        choices=("exact", "shift"),
        help="rounding of sums: exact (default) equals ONNX Runtime, shift is one shift",
    )
    parser.add_argument(
        "--softmax",
        choices=("host", "chip"),
        help="who computes Softmax: the host behind the last layer (default), equal to ONNX"
        " Runtime, or the chip anywhere, within one step",
    )
    parser.add_argument(
        "--shape",
        action="append",
        type=parse_shape,
        default=[],
        metavar="NAME=1,3,224,224",
        help="shape of an input with symbolic dimensions; may be repeated",
    )


def add_input_options(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """The user's inputs, and how many of them."""
    parser.add_argument(
        "--inputs",
        type=Path,
        required=required,
        metavar="X.npz",
        help="arrays [N, ...] under the inputs' names, or x; labels y are optional",
    )
    parser.add_argument("--limit", type=positive, metavar="N", help="use only the first N inputs")
    add_normalization(parser)


def add_normalization(parser: argparse.ArgumentParser) -> None:
    """What is done to raw pixels."""
    for name, what in (("mean", "is subtracted from raw pixels"), ("std", "then divides them")):
        parser.add_argument(
            f"--{name}",
            type=parse_numbers,
            metavar="M[,M...]",
            help=f"one number, or one a channel, that {what}",
        )


def add_seed(parser: argparse.ArgumentParser) -> None:
    """Of verbs that simulate."""
    parser.add_argument(
        "--seed",
        type=positive,
        default=1,
        metavar="N",
        help="chooses the random contents of simulated memories (default: 1)",
    )


def clock_mhz(text: str) -> float:
    """A clock in MHz, between 1 and 1,000."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 1 <= value <= 1000:
        raise argparse.ArgumentTypeError(f"'{shown(text)}' is no clock of 1 to 1000 MHz")
    return value


def parse_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """`NAME=1,3,224,224` of --shape."""
    name, equals, sizes = text.rpartition("=")
    try:
        shape = tuple(positive(part) for part in sizes.split(","))
    except argparse.ArgumentTypeError:
        shape = ()
    if not equals or not name or not shape:
        raise argparse.ArgumentTypeError(f"'{shown(text)}' is not of the form NAME=1,3,224,224")
    return name, shape
