"""From a file to the integer level: the passes in order, with the verifier after each one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from qcompile.compiler.diagnostics import Problems
from qcompile.compiler.errors import UsageError
from qcompile.compiler.frontend.loader import load_model_file
from qcompile.compiler.frontend.names import set_aside
from qcompile.compiler.frontend.reader import read_graph
from qcompile.compiler.ir import Graph, Model
from qcompile.compiler.names import restore_names
from qcompile.compiler.passes.chip_softmax import chip_softmax
from qcompile.compiler.passes.fold_qdq import fold_qdq
from qcompile.compiler.passes.fuse_requant import fuse_requant
from qcompile.compiler.passes.join_pairs import join_pairs
from qcompile.compiler.passes.matmul_to_conv import matmul_to_conv
from qcompile.compiler.passes.split_host import split_host
from qcompile.compiler.printer import print_graph
from qcompile.compiler.verify import verify

PASSES = (
    "frontend",
    "join_pairs",
    "fold_qdq",
    "chip_softmax",
    "matmul_to_conv",
    "split_host",
    "fuse_requant",
)
"""Names that `dump_after` takes, in the order in which the passes run."""

Report = Callable[[str], None]


def load_model(
    path: Path,
    *,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    requant: Literal["exact", "shift"] = "exact",
    softmax: Literal["host", "chip"] = "host",
    dump_after: str | None = None,
    dump: Report | None = None,
) -> Model:
    """Read an ONNX file and bring it to the integer level.

    Parameters
    ----------
    path : Path
        The .onnx file; external data is looked for beside it.
    shapes : mapping of input name to shape
        For inputs with symbolic dimensions beside the first.
    requant : "exact" or "shift"
        See `ir.Requant`.
    softmax : "host" or "chip"
        Who computes Softmax: the host behind the last layer, or the accelerator anywhere.
    dump_after : str, one of PASSES
        Print the graph after this pass.
    dump : callable
        Takes the text of `dump_after`; standard error without it.
    """
    if dump_after is not None and dump_after not in PASSES:
        raise UsageError(
            f"--dump-after {dump_after}: no such pass", help=f"one of {', '.join(PASSES)}"
        )
    file, own_names = set_aside(load_model_file(path))
    aside = {own: name for name, own in own_names.items()}
    stated = {aside.get(name, name): shape for name, shape in (shapes or {}).items()}
    problems = Problems(path.name)
    check = _Checker(dump_after, dump or _to_stderr)
    read = read_graph(file, stated, problems)
    check("frontend", read, clean=not problems.any)
    joined = join_pairs(read, problems)
    check("join_pairs", joined, clean=not problems.any)
    folded = fold_qdq(joined, problems)
    problems.raise_if_any()
    check("fold_qdq", folded)
    chosen = chip_softmax(folded, problems) if softmax == "chip" else folded
    check("chip_softmax", chosen)
    convolved = matmul_to_conv(chosen)
    check("matmul_to_conv", convolved)
    split = split_host(convolved, problems)
    check("split_host", split.graph)
    graph = fuse_requant(split.graph, problems, mode=requant)
    check("fuse_requant", graph)
    model = Model(
        name=path.stem,
        path=str(path),
        sha256=file.sha256,
        inputs=tuple(folded.values[name] for name in folded.inputs),
        outputs=tuple(folded.values[name] for name in folded.outputs),
        prologue=split.prologue,
        graph=graph,
        epilogue=split.epilogue,
        external=tuple(str(part) for part in file.external),
    )
    return restore_names(model, own_names)


class _Checker:
    """Verifies a graph after each pass and prints it where the user asked for that."""

    def __init__(self, dump_after: str | None, dump: Report) -> None:
        self.dump_after = dump_after
        self.dump = dump

    def __call__(self, name: str, graph: Graph, *, clean: bool = True) -> None:
        if name == self.dump_after:
            self.dump(print_graph(graph))
        if clean:
            verify(graph, after=name)


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr)
