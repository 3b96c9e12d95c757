"""Mutants of networks: a model or an error of the user's, soon, and never another result.

Each mutant goes as far as `qcompile check` goes: through all passes to the program and its cycles.
One that the compiler takes and that ONNX Runtime runs too must give what ONNX Runtime gives, by the
rule of `sim`; the layers and plans of small ones are walked in Python. Each mutant has dice of its
own, so that a finding's line is enough to make it again: `make_mutant(sources, seed, index)`.
"""

from __future__ import annotations

import random
import signal
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import numpy as np
import pytest
from onnx import helper

from qcompile.compiler import backend
from qcompile.compiler.errors import CapacityError, QcompileError, UnsupportedError, VerifyError
from qcompile.compiler.ir import Model
from qcompile.compiler.pipeline import load_model
from qcompile.compiler.simulate import reference_of, simulate
from qcompile.hw.boards.icebreaker import ICEBREAKER
from qcompile.runtime.inputs import Samples
from sim_tests.compiler.agreement import random_inputs
from sim_tests.compiler.compiled_runs import check_compiled
from sim_tests.compiler.dice import SeededDice
from sim_tests.compiler.mutations import mutate
from sim_tests.compiler.networks import Network, random_conv
from sim_tests.compiler.operator_samples import QONNX
from sim_tests.compiler.qoperator_networks import MICROSOFT, random_weight, tensor
from sim_tests.compiler.random_chains import random_chain
from sim_tests.compiler.random_operators import ALL, LAYERS
from sim_tests.compiler.test_frontend_damage import small_model

TIME_LIMIT_S = 10
"""Of this process's own time, so that a busy machine does not count."""
ELEMENTS_COMPARED = 1 << 18
"""Elements of a model's tensors, above which a mutant is not run: it would take seconds."""

CHAINS = 12
"""Random chains of operators among the sources."""

FIRST = (0.0631, -11, "int8")
SECOND = (0.0417, 5, "int8")
SHARED = (
    *("tflm_hello_world", "ort_mnist_qdq_u8u8", "cfu_magic_wand"),
    *("tinymaix_mnist_valid_q", "tinymaix_mnist_dw_q", "alibaba_kws_qdq_s8s8_pc"),
    "alibaba_kws_qoperator_u8s8",
)
LARGE = (
    *("mlpt_ic_resnet8", "mlpt_vww_mbv1_025", "mlpt_ad_toycar", "mlpt_kws_dscnn"),
    *("qonnx_TFC_2W2A_qcdq", "st_miniresnetv2_1s", "tflm_person_detect", "tinymaix_cifar10_q"),
    *("cfu_mbv2_160_035", "qonnx_espcn_nnresize_qcdq", "tflm_micro_speech"),
)
"""Whose mutants are compiled, but mostly too large to be compared."""


def branched_model() -> bytes:
    """Two branches of a Conv, added, joined with a pooled one, moved and sliced."""
    rng = np.random.default_rng(1)
    network = Network()
    x = network.input("x", "int8", (1, 4, 6, 6))
    pads = [1, 1, 1, 1]
    a = random_conv(network, rng, x, (4, 4, 3, 3), (FIRST, SECOND), pads=pads, zero_points=True)
    b = random_conv(network, rng, a, (4, 1, 3, 3), (SECOND, FIRST), pads=pads, group=4, relu=True)
    total = network.node("Add", network.dequantize(a, SECOND), network.dequantize(b, FIRST))
    total = network.dequantize(network.quantize(total, SECOND), SECOND)
    pooled = network.node("MaxPool", total, kernel_shape=[3, 3], strides=[1, 1], pads=pads)
    joined = network.node("Concat", pooled, total, axis=1)
    turned = network.node("Transpose", joined, perm=[0, 2, 3, 1])
    limits = [network.constant(value, "int64") for value in ([1], [5], [2])]
    cut = network.quantize(network.node("Slice", turned, *limits), SECOND)
    real = network.node("Sigmoid", network.dequantize(cut, SECOND))
    codes = network.quantize(real, (1 / 256, -128, "int8"))
    network.output(network.dequantize(codes, (1 / 256, -128, "int8")), "float32")
    return bytes(network.model().SerializeToString())


def operator_model() -> bytes:
    """QLinearConv, QLinearAdd, QLinearGlobalAveragePool, QLinearMatMul from real numbers."""
    rng = np.random.default_rng(2)
    network = Network()
    x = network.quantize(network.input("x", "float32", (1, 3, 5, 5)), FIRST)
    operands = [*tensor(network, x, FIRST), *random_weight(network, rng, (4, 3, 3, 3), "int8")[0]]
    y = network.node("QLinearConv", *operands, *tensor(network, "", SECOND))
    pair = [*tensor(network, y, SECOND), *tensor(network, y, SECOND), *tensor(network, "", FIRST)]
    total = network.node("QLinearAdd", *pair, domain=MICROSOFT)
    ends = [*tensor(network, total, FIRST), *tensor(network, "", FIRST)]
    pooled = network.node("QLinearGlobalAveragePool", *ends, domain=MICROSOFT, channels_last=0)
    flat = network.node("Flatten", pooled)
    operands = [*tensor(network, flat, FIRST), *random_weight(network, rng, (4, 3), "int8")[0]]
    scores = network.node("QLinearMatMul", *operands, *tensor(network, "", SECOND))
    network.output(network.dequantize(scores, SECOND), "float32")
    return bytes(network.model().SerializeToString())


def quantizer_model() -> bytes:
    """QONNX: weights and activations of 4, 3 and 1 bits, a Conv, a MatMul, a pool between."""
    rng = np.random.default_rng(3)
    network = Network()

    def quant(x: str, scale: float, bits: int) -> str:
        names = [network.constant(value, "float32") for value in (scale, 0, bits)]
        return network.node(
            "Quant", x, *names, domain=QONNX, signed=1, narrow=1, rounding_mode="ROUND"
        )

    weight, matrix = rng.normal(size=(4, 2, 3, 3)) / 4, rng.normal(size=(4, 3))
    x = quant(network.input("x", "float32", (1, 2, 6, 6)), 0.25, 4)
    w = quant(network.constant(weight, "float32"), 0.125, 3)
    y = quant(network.node("Conv", x, w, pads=[1, 1, 1, 1], strides=[2, 2]), 0.25, 4)
    flat = network.node("Flatten", network.node("MaxPool", y, kernel_shape=[3, 3]))
    half = network.constant(0.5, "float32")
    m = network.node("BipolarQuant", network.constant(matrix, "float32"), half, domain=QONNX)
    network.output(quant(network.node("MatMul", flat, m), 0.25, 4), "float32")
    model = network.model()
    model.opset_import.append(helper.make_opsetid(QONNX, 1))
    return bytes(model.SerializeToString())


def own_sources(project: Path) -> dict[str, bytes]:
    chains = {
        f"chain{number}": random_chain(ALL, LAYERS, SeededDice(f"fuzz {number}"), longest=4)
        for number in range(CHAINS)
    }
    return {
        **{name: network.model().SerializeToString() for name, network in chains.items()},
        "small": small_model().SerializeToString(),
        "branched": branched_model(),
        "operators": operator_model(),
        "quantizers": quantizer_model(),
        "digits": (project / "examples/digits/digits_int8.onnx").read_bytes(),
    }


def shared_sources(shared: Path, names: Sequence[str] = SHARED) -> dict[str, bytes]:
    return {name: (shared / f"models/{name}.onnx").read_bytes() for name in names}


def make_mutant(sources: Mapping[str, bytes], seed: int, index: int) -> tuple[str, bytes]:
    """The mutant of this number, and what it is."""
    dice = random.Random(f"{seed} {index}")
    name = dice.choice(sorted(sources))
    done, data = mutate(sources[name], dice)
    return f"mutant {index} of {name} ({done})", data


class TooSlow(Exception):
    """A mutant that takes longer than TIME_LIMIT_S."""


@contextmanager
def time_limit() -> Iterator[None]:
    def stop(_number: int, _frame: FrameType | None) -> None:
        raise TooSlow(f"longer than {TIME_LIMIT_S} s")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, TIME_LIMIT_S)
    try:
        with warnings.catch_warnings(action="error"):  # numpy's are findings too
            yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def compile_or_refuse(model: Model, rng: np.random.Generator, *, walked: bool) -> None:
    """The program; layers and plans of a small model that are `walked` compute what golden does."""
    try:
        compiled = backend.compile_model(model, board=ICEBREAKER, requant="exact")
    except (CapacityError, UnsupportedError):
        return
    if walked:
        check_compiled(compiled, rng)


def differences(model: Model, rng: np.random.Generator) -> Sequence[str] | None:
    """What `sim` would not allow; None where ONNX Runtime does not run the model."""
    tensors = random_inputs(model, rng, 3)
    try:
        reference = reference_of(model)
        samples = Samples(tensors=tensors, labels=None, notes=())
        run = simulate(model, reference, samples, progress=lambda _: None)
    except VerifyError:
        raise
    except QcompileError:
        return None
    return run.failures


def try_mutant(path: Path, rng: np.random.Generator, *, compared: bool) -> tuple[str, str]:
    """What became of a mutant, and the finding if that must not be."""
    try:
        with time_limit():
            model = load_model(path)
    except VerifyError as error:
        return "wrong", f"VerifyError: {error}"
    except QcompileError as error:
        return "refused", "" if str(error).startswith(f"{path.name}: ") else f"unnamed: {error}"
    except Exception:  # whatever else there is, is what is looked for
        return "wrong", traceback.format_exc(limit=-3)
    elements = sum(value.elements for value in model.graph.values.values())
    compared = compared and elements <= ELEMENTS_COMPARED
    try:
        with time_limit():
            compile_or_refuse(model, rng, walked=compared)
        if not compared:
            return "accepted", ""
        failures = differences(model, rng)
    except Exception:
        return "wrong", traceback.format_exc(limit=-3)
    if failures is None:
        return "accepted, not run by ONNX Runtime", ""
    return "accepted, compared", "; ".join(failures)


def sweep(sources: Mapping[str, bytes], seed: int, count: int, share: float, folder: Path) -> None:
    """Try `count` mutants, of those taken a `share` against ONNX Runtime; fails with findings."""
    outcomes: Counter[str] = Counter()
    findings: list[str] = []
    path = folder / "m.onnx"
    start, slowest = time.perf_counter(), 0.0
    for index in range(count):
        title, data = make_mutant(sources, seed, index)
        path.write_bytes(data)
        compared = random.Random(index).random() < share
        begun = time.perf_counter()
        outcome, finding = try_mutant(path, np.random.default_rng(index), compared=compared)
        slowest = max(slowest, time.perf_counter() - begun)
        outcomes[outcome] += 1
        if finding:
            findings.append(f"{title}: {finding}")
    print(f"{count} mutants, {time.perf_counter() - start:.1f} s, slowest {slowest:.1f} s")
    print(*(f"{number:6} {outcome}" for outcome, number in outcomes.most_common()), sep="\n")
    assert not findings, f"{len(findings)} findings\n" + "\n".join(findings)
    assert outcomes["refused"], "some damage should hit"
    if count > 100:  # of fewer there may be none
        kind = "accepted, compared" if share == 1 else "accepted"
        assert outcomes[kind], "and some should leave a model that both run"


def test_mutants_give_a_model_or_an_error(project: Path, seed: int, tmp_path: Path) -> None:
    sweep(own_sources(project), seed, 110, 1.0, tmp_path)


def test_mutants_of_real_networks_give_a_model_or_an_error(
    shared: Path, seed: int, tmp_path: Path
) -> None:
    sweep(shared_sources(shared), seed, 40, 1.0, tmp_path)


@pytest.mark.full
def test_many_mutants_give_a_model_or_an_error(project: Path, seed: int, tmp_path: Path) -> None:
    sweep(own_sources(project), seed, 1500, 1.0, tmp_path)


@pytest.mark.full
def test_many_mutants_of_real_networks_give_a_model_or_an_error(
    shared: Path, seed: int, tmp_path: Path
) -> None:
    sweep(shared_sources(shared), seed, 600, 0.5, tmp_path)


@pytest.mark.full
def test_many_mutants_of_large_networks_give_a_program_or_an_error(
    shared: Path, seed: int, tmp_path: Path
) -> None:
    sweep(shared_sources(shared, LARGE), seed, 300, 0.2, tmp_path)
