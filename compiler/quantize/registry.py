"""Every scheme and form, by the name that the user gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar

from qcompile.compiler.errors import UsageError
from qcompile.compiler.quantize.codebook import CodebookWeights
from qcompile.compiler.quantize.log_activations import LogActivations
from qcompile.compiler.quantize.options import Options
from qcompile.compiler.quantize.scheme import ActivationForm, Scheme, WeightForm
from qcompile.compiler.quantize.schemes.affine import Affine
from qcompile.compiler.quantize.schemes.dpu import Dpu
from qcompile.compiler.quantize.schemes.f8net import F8Net
from qcompile.compiler.quantize.schemes.shift import Shift
from qcompile.compiler.quantize.schemes.ternary import Binary, Ternary
from qcompile.compiler.quantize.schemes.xnor import Xnor

SCHEMES: dict[str, type[Scheme]] = {
    "affine": Affine,
    "shift": Shift,
    "f8net": F8Net,
    "dpu": Dpu,
    "ternary": Ternary,
    "binary": Binary,
    "xnor": Xnor,
}
WEIGHT_FORMS: dict[str, Callable[[str, Options], WeightForm]] = {"codebook": CodebookWeights.of}
"""KIND to what makes a form of its argument (empty where none was given); int8 is no form."""
ACTIVATION_FORMS: dict[str, Callable[[str, Options], ActivationForm]] = {"log": LogActivations.of}
SYNTAX = {"codebook": "codebook:N[,entropy]", "log": "log:L[,entropy|,output]"}
SPECIAL = ("range", "ranges", "fl")
"""Options that only some schemes read."""
PLAIN = "int8"

Form = TypeVar("Form")


def scheme_of(options: Options) -> Scheme:
    """The scheme that was asked for; UsageError where it, or an option with it, makes no sense."""
    if options.scheme not in SCHEMES:
        raise UsageError(
            f"scheme '{options.scheme}' is not known", help=f"take one of: {', '.join(SCHEMES)}"
        )
    scheme = SCHEMES[options.scheme]
    for name in SPECIAL:
        if getattr(options, name) is not None and name not in scheme.READS:
            readers = [known for known, one in SCHEMES.items() if name in one.READS]
            raise UsageError(
                f"--{name} has no meaning in scheme {options.scheme}",
                help=f"schemes with it: {', '.join(readers) or 'none'}",
            )
    if options.range is not None and options.range not in scheme.METHODS:
        raise UsageError(
            f"--range {options.range} has no meaning in scheme {options.scheme}",
            help=f"take one of: {', '.join(scheme.METHODS)}",
        )
    return scheme(options)


def check(options: Options, *, calibrated: bool = True) -> None:
    """UsageError where options make no sense, together or without calibration."""
    scheme_of(options)
    weight_form_of(options)
    activation_form_of(options)
    if options.relu6_to_relu and options.equalize is None:
        raise UsageError(
            "--relu6-to-relu has no use without --equalize", help="give --equalize too"
        )
    low_bit = issubclass(SCHEMES[options.scheme], Ternary)
    if options.int8_depthwise and options.weights == PLAIN and not low_bit:
        names = ", ".join(name for name, one in SCHEMES.items() if issubclass(one, Ternary))
        raise UsageError(
            f"--int8-depthwise has no use in scheme {options.scheme} with int8 weights",
            help=f"give --weights too, or take one of the schemes {names}",
        )
    if options.ranges is not None and options.equalize is not None:
        raise UsageError(
            "--ranges and --equalize exclude each other: the ranges are those of other tensors",
            help="leave one of them out",
        )
    if calibrated:
        return
    if options.ranges is None:
        raise UsageError("there is nothing to take ranges from", help="give --calibration X.npz")
    plain = Options(scheme=options.scheme, ranges=options.ranges, weights=options.weights)
    if replace(options, range=None, fl=None) != replace(
        plain, log_step=options.log_step, int8_depthwise=options.int8_depthwise
    ):
        raise UsageError(
            "only ranges and the form of weights do without calibration",
            help="give --calibration X.npz",
        )


def weight_form_of(options: Options) -> WeightForm | None:
    """The form that `options.weights` names; None for int8."""
    return _form("weights", options.weights, WEIGHT_FORMS, options)


def activation_form_of(options: Options) -> ActivationForm | None:
    """The form that `options.activations` names; None for int8."""
    form = _form("activations", options.activations, ACTIVATION_FORMS, options)
    asked = {"--part-signs": options.part_signs, "--log-step": options.log_step is not None}
    for name, given in asked.items():
        if given and form is None:
            raise UsageError(f"{name} has no meaning with int8 activations", help="see log:L")
    return form


def _form(
    what: str, text: str, known: Mapping[str, Callable[[str, Options], Form]], options: Options
) -> Form | None:
    kind, _, argument = text.partition(":")
    if text == PLAIN:
        return None
    if kind not in known:
        names = ", ".join([PLAIN, *(SYNTAX[one] for one in known)])
        raise UsageError(f"--{what} {text} is not known", help=f"take one of: {names}")
    if text.endswith(","):
        raise UsageError(f"--{what} {text} ends with a comma", help=f"give {SYNTAX[kind]}")
    return known[kind](argument, options)
