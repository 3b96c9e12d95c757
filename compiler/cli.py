"""The command `qcompile`: options, help and exit codes; each verb's work is in `commands`.

Exit codes: 0 done, 1 an error that the user can mend (or a difference that `sim` found, or a model
that `check` finds too large), 2 wrong usage, 130 interrupted. Any other exception is our bug and
keeps its traceback. Modules of verbs are imported when they run, so that `qcompile --help` answers
at once.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from qcompile.compiler.errors import QcompileError, UsageError
from qcompile.runtime.options import PORT_HELP, parse_numbers, positive, shown

VERBS = ("compile", "check", "quantize", "requantize", "sim", "run", "flash", "doctor", "targets")
WRONG_USAGE = 2
"""As argparse has it."""
INTERRUPTED = 130
"""What shells use for a program that Ctrl-C ended: 128 + SIGINT."""

DESCRIPTION = """\
Quantized ONNX to an FPGA accelerator, bit-identical to ONNX Runtime.

  qcompile MODEL.onnx --target ice40      compile; the same as `qcompile compile MODEL.onnx ...`
"""

EXAMPLES = {
    "": """\
examples:
  qcompile check model.onnx                            does it fit, how fast is it; seconds
  qcompile model.onnx --target ice40                   compile to build/model
  qcompile sim build/model --inputs x.npz              Verilog against golden and ONNX Runtime
  qcompile sim model.onnx --inputs x.npz --engine golden   accuracy, without hardware
  qcompile flash build/model                           program the board
  qcompile run build/model --inputs x.npz --port sim   the simulated board, or /dev/ttyUSB1

`qcompile VERB --help` tells more about each.""",
    "compile": """\
examples:
  qcompile model.onnx --target ice40
  qcompile model.onnx --board icebreaker --no-bitstream -o build/try
  qcompile model.onnx --target xc7 --device xc7a35t --clock 80
  qcompile model.onnx --target ice40 --shape image=1,3,64,64 --json > report.json""",
    "check": """\
examples:
  qcompile check model.onnx
  qcompile check model.onnx --device up5k --shape image=1,3,64,64
  qcompile check model.onnx --requant shift --json

Without a target, every device is asked about. Exit code 0: it fits each that was asked about; 1: it
does not, or is refused.""",
    "quantize": """\
examples:
  qcompile quantize float.onnx --calibration x.npz -o int8.onnx
  qcompile quantize float.onnx --calibration x.npz --rows 200 --range mse -o int8.onnx
  qcompile quantize float.onnx --calibration pixels.npz --mean 127.5 --std 127.5 -o int8.onnx
  qcompile quantize float.onnx --calibration x.npz --range output --equalize activations \\
      --rounding search --bias-correction -o int8.onnx
  qcompile quantize float.onnx --ranges net_clip_ranges.json -o int8.onnx

The first --rows inputs of x.npz calibrate; with labels y, accuracy is measured on the others.""",
    "requantize": """\
examples:
  qcompile requantize int8.onnx --scheme shift --inputs x.npz -o shift.onnx
  qcompile sim shift.onnx --inputs x.npz --requant shift --engine golden
  qcompile requantize int8.onnx --weights codebook:16 --inputs x.npz -o codebook.onnx

What this costs on the inputs is printed before the model is written: accuracy with labels
y, the share of equal classes, and the outputs' error against int8.onnx.""",
    "sim": """\
examples:
  qcompile sim build/model --inputs x.npz
  qcompile sim build/model --inputs x.npz --limit 1 --layers
  qcompile sim model.onnx --inputs x.npz --engine golden -o build/accuracy.json

x.npz: numpy.savez('x.npz', x=array[N, ...], y=labels[N]); the labels are optional.""",
    "run": """\
examples:
  qcompile run build/model --inputs x.npz --port sim
  qcompile run build/model --inputs x.npz --port /dev/ttyUSB1 --json
  qcompile run build/model --port /dev/ttyUSB1 --selftest""",
    "flash": """\
examples:
  qcompile flash build/model --dry-run
  qcompile flash build/model --board icebreaker""",
    "doctor": "examples:\n  qcompile doctor\n  qcompile doctor --json",
    "targets": "examples:\n  qcompile targets\n  qcompile targets --json",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        arguments = _parse(sys.argv[1:] if argv is None else argv)
        verb = importlib.import_module(f"qcompile.compiler.commands.{arguments.verb}")
        code = int(verb.run(arguments))
        sys.stdout.flush()
        return code
    except QcompileError as error:
        print(error.render(), file=sys.stderr)
        return WRONG_USAGE if isinstance(error, UsageError) else 1
    except ModuleNotFoundError as error:
        from qcompile.compiler.requirements import missing_package  # slow to import

        missing = missing_package(error)
        if missing is None:
            raise
        print(missing.render(), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except OSError as error:
        # A reader that went away, as `| head` does, is no error; a full disk is.
        if not isinstance(error, BrokenPipeError):
            print(f"{error.filename or 'output'}: {error.strerror or error}", file=sys.stderr)
        with contextlib.suppress(OSError):  # nothing may be flushed any more
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if not _was_interrupted(error):
            raise
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, previous)


def _was_interrupted(error: BaseException | None) -> bool:
    """Whether an interruption is behind an error: libraries that are being imported wrap it."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Let an end from outside clean up as Ctrl-C does."""
    raise KeyboardInterrupt


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments; wrong usage ends here, with the usage of the verb at hand."""
    parser = build_parser()
    words = list(argv) or ["--help"]
    general = ("-h", "--help", "--version")
    if words[0] not in (*VERBS, *general):
        _check_model(parser, words[0])
        words.insert(0, "compile")
    arguments, unknown = parser.parse_known_args(words)
    if unknown:
        arguments.usage_error(f"unrecognized arguments: {' '.join(unknown)}")
    return arguments


def _check_model(parser: argparse.ArgumentParser, word: str) -> None:
    """A first word that is no verb is a model to compile, or a slip."""
    if word.startswith("-") or word.endswith(".onnx") or Path(word).exists():
        return
    near = difflib.get_close_matches(word, VERBS, n=1)
    parser.error(f"no such verb or file: '{word}'" + (f"; is it '{near[0]}'?" if near else ""))


def build_parser() -> argparse.ArgumentParser:
    """All verbs and their options."""
    parser = argparse.ArgumentParser(
        prog="qcompile",
        description=DESCRIPTION,
        epilog=EXAMPLES[""],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version)
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    _add_compile(_add_verb(verbs, "compile", "make Verilog, program, bitstream and report"))
    _add_check(_add_verb(verbs, "check", "say in seconds whether a model fits, and how fast it is"))
    _add_quantize(_add_verb(verbs, "quantize", "make an int8 model of a float one, by calibration"))
    _add_requantize(
        _add_verb(
            verbs, "requantize", "give an int8 model scales that are shifts, or fewer weights"
        )
    )
    _add_sim(_add_verb(verbs, "sim", "simulate, and compare with golden and ONNX Runtime"))
    _add_run(_add_verb(verbs, "run", "run inputs on a board, or on the simulated board"))
    _add_flash(_add_verb(verbs, "flash", "program a board with openFPGALoader"))
    _add_json(_add_verb(verbs, "doctor", "name every tool, and what is missing"))
    _add_json(_add_verb(verbs, "targets", "list devices and boards, and what they hold"))
    return parser


class _Version(argparse.Action):
    """--version; looks the version up only when asked."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(
            option_strings, dest, nargs=0, default=argparse.SUPPRESS, help="print the version"
        )

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        from importlib.metadata import version  # slow to import

        print(f"qcompile {version('qcompile')}")
        parser.exit()


def _add_verb(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser], name: str, summary: str
) -> argparse.ArgumentParser:
    parser = verbs.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=EXAMPLES[name],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(usage_error=parser.error)
    return parser


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def _add_target_options(parser: argparse.ArgumentParser) -> None:
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


def _add_model_options(parser: argparse.ArgumentParser) -> None:
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


def _add_input_options(parser: argparse.ArgumentParser, *, required: bool) -> None:
    parser.add_argument(
        "--inputs",
        type=Path,
        required=required,
        metavar="X.npz",
        help="arrays [N, ...] under the inputs' names, or x; labels y are optional",
    )
    parser.add_argument("--limit", type=positive, metavar="N", help="use only the first N inputs")
    _add_normalization(parser)


def _add_normalization(parser: argparse.ArgumentParser) -> None:
    for name, what in (("mean", "is subtracted from raw pixels"), ("std", "then divides them")):
        parser.add_argument(
            f"--{name}",
            type=parse_numbers,
            metavar="M[,M...]",
            help=f"one number, or one a channel, that {what}",
        )


def _add_compile(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL.onnx")
    _add_target_options(parser)
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="default: build/NAME")
    _add_model_options(parser)
    parser.add_argument("--no-bitstream", action="store_true", help="stop at the Verilog")
    parser.add_argument(
        "--synth",
        action="store_true",
        help="count LUTs and the like with Yosys, which takes minutes, once a design; xc7 only",
    )
    parser.add_argument("--force", action="store_true", help="replace a build of another model")
    parser.add_argument("--dump-after", metavar="PASS", help="print the graph after a pass")
    _add_json(parser)


def _add_check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL.onnx")
    _add_target_options(parser)
    _add_model_options(parser)
    _add_json(parser)


def _add_quantize(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="FLOAT.onnx")
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
    parser.add_argument(
        "--scheme",
        default="affine",
        help="affine (default), shift, f8net, dpu, ternary, binary or xnor; docs/quantization.md",
    )
    parser.add_argument(
        "--weights",
        default="int8",
        metavar="FORM",
        help="how weights are stored: int8 (default), or codebook:N[,entropy], N values a layer",
    )
    parser.add_argument(
        "--int8-depthwise",
        action="store_true",
        help="weights of depthwise layers are int8 whatever --weights says",
    )
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
    _add_normalization(parser)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="INT8.onnx")


def _add_requantize(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="INT8.onnx")
    parser.add_argument(
        "--scheme",
        choices=("shift",),
        help="what the new scales are: shift; as they were with --weights",
    )
    parser.add_argument(
        "--weights",
        default="int8",
        metavar="FORM",
        help="how weights are stored: int8 (default), or codebook:N[,entropy], N values a layer",
    )
    _add_input_options(parser, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.onnx")


def _add_sim(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("subject", type=Path, metavar="DIR|MODEL.onnx")
    _add_input_options(parser, required=True)
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
    _add_model_options(parser)
    _add_seed(parser)
    _add_json(parser)


def _add_seed(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--seed",
        type=positive,
        default=1,
        metavar="N",
        help="chooses the random contents of simulated memories (default: 1)",
    )


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("build", type=Path, metavar="DIR")
    _add_input_options(parser, required=False)
    parser.add_argument("--port", required=True, help=f"sim for the simulated board, {PORT_HELP}")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="write the outputs to this npz file"
    )
    parser.add_argument(
        "--selftest", action="store_true", help="replay the build's golden vectors on the board"
    )
    _add_seed(parser)
    _add_json(parser)


def _add_flash(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("build", type=Path, metavar="DIR")
    parser.add_argument("--board", help="default: the build's own")
    parser.add_argument("--dry-run", action="store_true", help="print the commands only")


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


if __name__ == "__main__":
    sys.exit(main())
