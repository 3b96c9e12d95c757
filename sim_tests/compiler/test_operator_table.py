"""docs/operators.md says what the compiler's entries say, and the entries say what is true."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qcompile.compiler import backend
from qcompile.compiler.errors import QcompileError, UnsupportedError, VerifyError
from qcompile.compiler.frontend.node_reader import NodeReader
from qcompile.compiler.frontend.operators import Operator
from qcompile.compiler.frontend.reader import DOMAINS, OPSETS
from qcompile.compiler.frontend.signatures import first_opset
from qcompile.compiler.golden.interpreter import run_model
from qcompile.compiler.ir import Model, Reshape
from qcompile.compiler.operator_table import with_tables
from qcompile.compiler.passes.reshape_words import reshape_words
from qcompile.compiler.pipeline import load_model
from qcompile.compiler.reference import Reference
from qcompile.compiler.simulate import reference_of, simulate
from qcompile.hw.boards.icebreaker import ICEBREAKER
from qcompile.runtime.inputs import Samples
from sim_tests.compiler.agreement import random_inputs
from sim_tests.compiler.operator_samples import QONNX, SAMPLES, Context, Sample, sample_model

ENTRIES = [(domain, name) for domain, samples in SAMPLES.items() for name in samples]
CONTEXTS: tuple[Context, ...] = ("behind", "between", "end")
IDS = [f"{domain or 'onnx'}.{name}" for domain, name in ENTRIES]

every_operator = pytest.mark.parametrize(("domain", "name"), ENTRIES, ids=IDS)


def opsets(domain: str, name: str) -> tuple[int, ...]:
    """Opsets of the standard operators to try: the ends of what the table says, and between."""
    first = OPSETS.start if domain else max(first_opset(name), OPSETS.start)
    return tuple(sorted({first, OPSETS.stop - 1, *(o for o in (11, 13, 18) if o > first)}))


def load(folder: Path, sample: Sample, context: Context, dtype: str, opset: int) -> Model | None:
    """The integer model, or None where it is refused."""
    path = folder / "m.onnx"
    path.write_bytes(sample_model(sample, context, dtype, opset).SerializeToString())
    try:
        return load_model(path)
    except VerifyError:
        raise
    except QcompileError as error:
        print(error)
        return None


def models(folder: Path, domain: str, name: str, dtype: str, opset: int) -> Iterator[Model | None]:
    """All samples of an operator in all contexts."""
    for sample in SAMPLES[domain][name]:
        for context in CONTEXTS:
            yield load(folder, sample, context, dtype, opset)


def operator_types(operator: Operator) -> tuple[str, ...]:
    """Types of activations."""
    return tuple(dtype for dtype in operator.types if dtype != "int32") or ("float32",)


def test_document_holds_the_tables_that_the_entries_make(project: Path) -> None:
    text = (project / "docs/operators.md").read_text()
    assert text == with_tables(text), (
        "python -m qcompile.compiler.operator_table docs/operators.md writes the tables anew"
    )


def test_every_operator_that_is_read_has_a_sample() -> None:
    assert {domain: set(samples) for domain, samples in SAMPLES.items()} == {
        domain: set(DOMAINS[domain]) for domain in ("", "com.microsoft", QONNX)
    }


@every_operator
def test_operator_is_read_in_every_opset_and_type_of_the_table(
    tmp_path: Path, domain: str, name: str
) -> None:
    for dtype in operator_types(DOMAINS[domain][name]):
        for opset in opsets(domain, name):
            assert any(models(tmp_path, domain, name, dtype, opset)), f"opset {opset} {dtype}"


@every_operator
def test_operator_is_refused_with_operands_of_other_types(
    tmp_path: Path, domain: str, name: str
) -> None:
    others = {"float32", "int8", "uint8"} - set(operator_types(DOMAINS[domain][name]))
    for dtype in others:
        assert not any(models(tmp_path, domain, name, dtype, 21)), dtype


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[tuple[str, str], set[str]]]:
    """Attributes that importers ask for, by domain and operator."""
    found: dict[tuple[str, str], set[str]] = {}
    original = NodeReader.attribute

    def attribute(self: NodeReader, name: str, *rest: Any, **options: Any) -> Any:
        found.setdefault((self.node.domain, self.node.op_type), set()).add(name)
        return original(self, name, *rest, **options)

    monkeypatch.setattr(NodeReader, "attribute", attribute)
    yield found


@every_operator
def test_attributes_of_the_table_are_those_that_are_asked_for(
    tmp_path: Path, asked: dict[tuple[str, str], set[str]], domain: str, name: str
) -> None:
    for opset in opsets(domain, name):
        list(models(tmp_path, domain, name, operator_types(DOMAINS[domain][name])[0], opset))
    assert asked.get((domain, name), set()) == set(DOMAINS[domain][name].attributes)


def own_steps(model: Model) -> list[str]:
    """Operations of the accelerator that stand for node `q` alone."""
    return [
        op.name
        for op in reshape_words(model.graph).ops
        if not isinstance(op, Reshape)
        and "q" in {origin.node for origin in op.origins}
        and not {"front", "back"} & {origin.node for origin in op.origins}
    ]


def compiles(model: Model) -> bool:
    try:
        return bool(backend.compile_model(model, board=ICEBREAKER, requant="exact").layers)
    except UnsupportedError as error:
        print(error)
        return False


def places(context: Context, model: Model) -> Iterator[str]:
    """Where node `q` of a sample runs."""
    if own_steps(model):
        if context == "between" and compiles(model):
            yield "accelerator"
    elif context == "end":
        yield "host"
    elif context == "between" or all(step["op"] == "Reshape" for step in model.epilogue):
        yield "folded"


@every_operator
def test_operator_runs_where_the_table_says(tmp_path: Path, domain: str, name: str) -> None:
    operator = DOMAINS[domain][name]
    contexts = CONTEXTS[:1] if name in ("Constant", "Shape") else CONTEXTS  # these run nowhere
    found: set[str] = set()
    for sample in SAMPLES[domain][name]:
        for context in contexts:
            model = load(tmp_path, sample, context, operator_types(operator)[0], 21)
            found |= set() if model is None else set(places(context, model))
    assert found == set(operator.runs)


@every_operator
def test_operator_agrees_with_onnx_runtime_as_the_table_says(
    tmp_path: Path, rng: np.random.Generator, domain: str, name: str
) -> None:
    operator = DOMAINS[domain][name]
    compared = 0
    for dtype in operator_types(operator):
        for sample in SAMPLES[domain][name]:
            for context in CONTEXTS:
                model = load(tmp_path, sample, context, dtype, 21)
                if model is not None:
                    compared += 1
                    compare(operator, model, rng, behind=context == "behind")
    assert compared


def compare(operator: Operator, model: Model, rng: np.random.Generator, *, behind: bool) -> None:
    """By the rule of `sim`, and by the entry's; directly behind a layer there are islands."""
    inputs = random_inputs(model, rng, 40)
    samples = Samples(tensors=inputs, labels=None, notes=())
    assert simulate(model, reference_of(model), samples, progress=lambda _: None).failures == ()
    if behind:
        return
    expected = Reference(Path(model.path), []).run(inputs).outputs
    for name, found in run_model(model, inputs).items():
        if operator.agreement == "equal":
            assert np.array_equal(found, expected[name], equal_nan=found.dtype.kind == "f")
        elif operator.agreement == "1 step":
            assert np.max(np.abs(found.astype(np.int64) - expected[name])) <= 1
        else:
            np.testing.assert_allclose(found, expected[name], rtol=1e-6)
