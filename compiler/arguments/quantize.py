"""Options of the verbs that make int8 models: quantize and requantize."""

from __future__ import annotations

import argparse
from pathlib import Path

from qcompile.compiler.arguments.common import add_input_options, add_normalization
from qcompile.runtime.options import positive


def add_quantize(parser: argparse.ArgumentParser) -> None:
    """Of quantize; help lists them in this order."""
    parser.add_argument("model", type=Path, metavar="FLOAT.onnx")
    _add_calibration(parser)
    _add_equalization(parser)
    parser.add_argument(
        "--scheme",
        default="affine",
        help="affine (default), shift, f8net, dpu, ternary, binary or xnor; docs/quantization.md",
    )
    _add_weights(parser)
    parser.add_argument(
        "--int8-depthwise",
        action="store_true",
        help="weights of depthwise layers are int8 whatever --weights says",
    )
    _add_activations(parser)
    _add_corrections(parser)
    add_normalization(parser)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="INT8.onnx")


def _add_calibration(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--calibration",
        type=Path,
        metavar="X.npz",
        help="float32 arrays [N, ...] under the inputs' names, or x; labels y are optional",
    )
    parser.add_argument(
        "--rows", type=positive, default=200, metavar="N", help="inputs to calibrate with (200)"
    )
    parser.add_argument(
        "--range",
        choices=("minmax", "percentile", "mse", "kl", "output"),
        help="of activations: all values (default), 99.99 %% of them, least squared error, least "
        "loss of information, or least error of the layers behind",
    )
    parser.add_argument(
        "--ranges",
        type=Path,
        metavar="FILE.json",
        help="clip ranges of activations from a training tool, as MQBench's deploy export writes",
    )


def _add_equalization(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--equalize",
        choices=("weights", "activations"),
        help="scale channels between layers so that both sides suit 8 bits, by the largest weights "
        "or activations",
    )
    parser.add_argument(
        "--relu6-to-relu",
        action="store_true",
        help="take Relu6 for Relu, so that its layers can be equalized",
    )


def _add_activations(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--activations",
        default="int8",
        metavar="FORM",
        help="what activations are: int8 (default), or log:L[,entropy|,output], L powers",
    )
    parser.add_argument(
        "--part-signs",
        action="store_true",
        help="logarithmic activations: a network's input with a sign too, as its two signs",
    )
    parser.add_argument(
        "--log-step",
        choices=("16", "8", "4", "any"),
        default="any",
        help="of logarithmic activations, in sixteenths of an octave: 16 needs shifts alone",
    )


def _add_corrections(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--bias-correction", action="store_true", help="take mean errors of layers off their biases"
    )
    parser.add_argument(
        "--rounding",
        choices=("nearest", "search"),
        default="nearest",
        help="of weights: to the nearest code (default), or as makes layers' errors small",
    )
    parser.add_argument(
        "--fl", choices=("std", "grid"), help="how a fixed-point scheme finds fractional lengths"
    )


def add_requantize(parser: argparse.ArgumentParser) -> None:
    """Of requantize."""
    parser.add_argument("model", type=Path, metavar="INT8.onnx")
    parser.add_argument(
        "--scheme",
        choices=("shift",),
        help="what the new scales are: shift; as they were with --weights",
    )
    _add_weights(parser)
    add_input_options(parser, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.onnx")


def _add_weights(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--weights",
        default="int8",
        metavar="FORM",
        help="how weights are stored: int8 (default), or codebook:N[,entropy], N values a layer",
    )
