"""Random chains of operators: golden gives what ONNX Runtime gives, by the rule of `sim`.

The layers and plans of small ones are walked in Python too.

`--seed` draws others. A model may be refused, for the accelerator or at all, with a user's error;
many are not.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from hypothesis import HealthCheck
from hypothesis import strategies as st

from qcompile.compiler import backend
from qcompile.compiler.errors import QcompileError, VerifyError
from qcompile.compiler.ir import Model
from qcompile.compiler.pipeline import load_model
from qcompile.compiler.simulate import reference_of, simulate
from qcompile.hw.boards.icebreaker import ICEBREAKER
from qcompile.runtime.inputs import Samples
from sim_tests.compiler.agreement import random_inputs
from sim_tests.compiler.compiled_runs import check_compiled
from sim_tests.compiler.dice import Dice, DrawnDice
from sim_tests.compiler.random_chains import Operator, random_chain
from sim_tests.compiler.random_operators import ALL, ELEMENTWISE, LAYERS, MOVES, WINDOWS

KINDS: dict[str, tuple[Operator, ...]] = {
    "layers": LAYERS,
    "windows": WINDOWS,
    "elementwise": ELEMENTWISE,
    "moves": MOVES,
    "all": ALL,
}
INPUTS = 6
COMPILED = "compiled"


def outcome(path: Path, operators: tuple[Operator, ...], dice: Dice) -> str:
    """What became of a chain; a difference fails."""
    path.write_bytes(random_chain(operators, LAYERS, dice).model().SerializeToString())
    seed = dice.whole(0, 99)
    try:
        model = load_model(path)
    except VerifyError:
        raise
    except QcompileError as error:
        return f"refused: {error}"
    try:
        failures = differences(model, np.random.default_rng(seed))
        assert failures == ()
        compiled = backend.compile_model(model, board=ICEBREAKER, requant="exact")
        check_compiled(compiled, np.random.default_rng(seed))
    except VerifyError:
        raise
    except QcompileError as error:
        return f"not compiled: {error}"
    return COMPILED


def differences(model: Model, rng: np.random.Generator) -> tuple[str, ...]:
    """What `sim` would not allow."""
    samples = Samples(tensors=random_inputs(model, rng, INPUTS), labels=None, notes=())
    return simulate(model, reference_of(model), samples, progress=lambda _: None).failures


def sweep(folder: Path, kind: str, seed: int, count: int) -> None:
    """Try `count` chains; the smallest one that fails is printed with what reproduces it."""
    outcomes: Counter[str] = Counter()

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count,
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @hypothesis.given(st.data())
    def check(data: st.DataObject) -> None:
        outcomes[outcome(folder / "m.onnx", KINDS[kind], DrawnDice(data))] += 1

    check()
    print(*(f"{number:5} {what}" for what, number in outcomes.most_common()), sep="\n")
    assert outcomes[COMPILED] > count // 4


@pytest.mark.parametrize("kind", KINDS)
def test_random_chains_equal_onnx_runtime(tmp_path: Path, seed: int, kind: str) -> None:
    sweep(tmp_path, kind, seed, 20)


@pytest.mark.full
@pytest.mark.parametrize("kind", KINDS)
def test_many_random_chains_equal_onnx_runtime(tmp_path: Path, seed: int, kind: str) -> None:
    sweep(tmp_path, kind, seed, 250)
