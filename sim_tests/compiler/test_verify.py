"""The verifier finds every kind of damage that a pass could do, and names the pass."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qcompile.compiler.errors import VerifyError
from qcompile.compiler.ir import Binary, Conv, Graph, Lookup, Requant, Reshape, Value
from qcompile.compiler.pipeline import load_model
from qcompile.compiler.verify import verify


def requant(**changes: Any) -> Requant:
    mantissa = np.full(3, 2**23)
    base = Requant(mode="exact", mantissa=mantissa, shift=np.full(3, 30), zero_point=0)
    return replace(base, **changes)


def conv(**changes: Any) -> Conv:
    base = Conv(
        inputs=("x",),
        outputs=("y",),
        weight=np.ones((3, 2, 3, 3), np.int16),
        bias=np.zeros(3, np.int64),
        input_zero_point=0,
        strides=(1, 1),
        dilations=(1, 1),
        pads=(1, 1, 1, 1),
        group=1,
        requant=requant(),
    )
    return replace(base, **changes)


def graph(*ops: Any, y_dtype: str = "int8", **changes: Any) -> Graph:
    shapes = {"x": (1, 2, 5, 5), "y": (1, 3, 5, 5), "z": (1, 75)}
    values = {
        name: Value(name=name, shape=shape, dtype=y_dtype if name == "y" else "int8")
        for name, shape in shapes.items()
    }
    base = Graph(name="g", inputs=("x",), outputs=("y",), values=values, ops=ops or (conv(),))
    return replace(base, **changes)


def test_sound_graph_passes() -> None:
    verify(graph(), after="nothing")
    verify(graph(conv(), Reshape(inputs=("y",), outputs=("z",), shape=(1, 75))), after="nothing")


TABLE = np.zeros((256, 256), np.int8)
DAMAGED = [
    (graph(outputs=("q",)), "output 'q' is never made"),
    (graph(conv(inputs=("z",))), "Conv 'y' uses 'z' before it is made"),
    (graph(conv(), conv()), "'y' is made twice"),
    (graph(values={"x": graph().values["x"]}), "'y' has no value"),
    (
        graph(values={**graph().values, "x": Value(name="w", shape=(1,), dtype="int8")}),
        "value 'w' is filed as 'x'",
    ),
    (
        graph(values={**graph().values, "z": Value(name="z", shape=(1, 0), dtype="int8")}),
        "'z' has the shape [1, 0]",
    ),
    (graph(y_dtype="uint8"), "Conv 'y' works on something else than int8 codes"),
    (
        graph(conv(weight=np.full((3, 2, 3, 3), 256, np.int16))),
        "Conv 'y' has weights outside -255..255",
    ),
    (
        graph(conv(group=2)),
        "Conv 'y' has weights [3, 2, 3, 3] in 2 groups for [1, 2, 5, 5]",
    ),
    (graph(conv(bias=np.zeros(2, np.int64))), "Conv 'y' has a bias int64[2]"),
    (
        graph(conv(pads=(0, 1, 1, 1))),
        "Conv 'y' makes [1, 3, 5, 5] of [1, 2, 5, 5] with kernel [3, 3]",
    ),
    (graph(conv(input_zero_point=128)), "Conv 'y' has the input zero point 128"),
    (
        graph(conv(requant=requant(mantissa=np.full(2, 2**23)))),
        "Conv 'y' has 2 mantissas and 3 shifts for 3 channels",
    ),
    (
        graph(conv(requant=requant(mantissa=np.full(3, 2**24)))),
        "Conv 'y' has a mantissa that is not of 24 bits",
    ),
    (graph(conv(requant=requant(mode="shift"))), "Conv 'y' has a mantissa in mode shift"),
    (graph(conv(requant=requant(shift=np.full(3, 64)))), "Conv 'y' has shifts 64..64"),
    (graph(conv(requant=requant(low=5, high=4))), "Conv 'y' clamps to 5..4 around 0"),
    (
        graph(Binary(inputs=("x", "x"), outputs=("y",), table=TABLE)),
        "Binary 'y' makes [1, 3, 5, 5] of [[1, 2, 5, 5], [1, 2, 5, 5]]",
    ),
    (
        graph(Lookup(inputs=("y",), outputs=("y",), table=TABLE), inputs=("x", "y")),
        "'y' is made twice",
    ),
    (
        graph(
            Lookup(inputs=("x",), outputs=("y",), table=TABLE),
            values={
                "x": graph().values["x"],
                "y": Value(name="y", shape=(1, 2, 5, 5), dtype="int8"),
            },
        ),
        "Lookup 'y' has a table int8[256, 256]",
    ),
    (
        graph(Reshape(inputs=("x",), outputs=("y",), shape=(1, 3, 5, 5))),
        "Reshape 'y' makes [1, 3, 5, 5] of [1, 2, 5, 5]",
    ),
]


@pytest.mark.parametrize(("damaged", "message"), DAMAGED, ids=[text for _, text in DAMAGED])
def test_damage_is_named_with_the_pass(damaged: Graph, message: str) -> None:
    lines = (
        f"pass tidy: {message}",
        f"  graph 'g' with {len(damaged.ops)} operations",
        "  help: this is a bug of qcompile; please report it with the model",
    )
    with pytest.raises(VerifyError, match=rf"^{re.escape(chr(10).join(lines))}$"):
        verify(damaged, after="tidy")


def test_real_network_is_verified_after_every_pass(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def spy(graph: Graph, *, after: str) -> None:
        seen.append(after)
        verify(graph, after=after)

    monkeypatch.setattr("qcompile.compiler.pipeline.verify", spy)
    load_model(shared / "models" / "mlpt_kws_dscnn.onnx")
    assert seen == [
        *("frontend", "join_pairs", "fold_qdq", "chip_softmax"),
        *("matmul_to_conv", "split_host", "fuse_requant"),
    ]
