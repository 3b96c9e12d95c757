"""The tables of docs/operators.md, made of the entries of the operators that the frontend reads.

`python -m qcompile.compiler.operator_table docs/operators.md` writes them anew.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from qcompile.compiler.frontend.operators import Operator
from qcompile.compiler.frontend.reader import DOMAINS, OPSETS
from qcompile.compiler.frontend.signatures import first_opset

BEGIN, END = "<!-- operator table: begin -->", "<!-- operator table: end -->"
"""Lines of docs/operators.md that enclose the tables."""

HEAD = (
    *("operator", "opset", "first operand", "attributes", "runs", "against ONNX Runtime"),
    "constants, limits",
)
AGREEMENT = {
    "equal": "equal",
    "1 step": "at most 1 step apart",
    "rounding": "equal up to the last bits",
}


def tables() -> str:
    """A table for each domain; domains with the same operators share one."""
    parts = []
    for operators in {id(entries): entries for entries in DOMAINS.values()}.values():
        domains = [domain for domain, entries in DOMAINS.items() if entries is operators]
        title = ", ".join(domain or "ONNX" for domain in domains)
        parts.append("\n".join([f"### {title}", "", *_table(operators, standard="" in domains)]))
    return "\n\n".join(parts)


def _table(operators: Mapping[str, Operator], *, standard: bool) -> Iterable[str]:
    """Markdown lines; operators that differ in their names only share a row."""
    rows: dict[tuple[str, ...], list[str]] = {}
    for name, operator in sorted(operators.items()):
        rows.setdefault(_cells(operator, _opsets(name) if standard else "1"), []).append(name)
    yield _line(HEAD)
    yield _line(["---"] * len(HEAD))
    for cells, names in rows.items():
        yield _line([", ".join(names), *cells])


def _opsets(name: str) -> str:
    return f"{max(first_opset(name), OPSETS.start)} to {OPSETS.stop - 1}"


def _cells(operator: Operator, opsets: str) -> tuple[str, ...]:
    attributes = (
        f"`{name}` ({remark})" if remark else f"`{name}`"
        for name, remark in sorted(operator.attributes.items())
    )
    return (
        opsets,
        ", ".join(operator.types) or "-",
        ", ".join(attributes) or "-",
        ", ".join(operator.runs),
        AGREEMENT[operator.agreement],
        operator.remark or "-",
    )


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def with_tables(document: str) -> str:
    """The document with the tables between its two marks."""
    before, _, rest = document.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError(f"there are no lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{tables()}\n{END}{after}"


def main(arguments: list[str]) -> None:
    """Write the tables into the file that is named."""
    (name,) = arguments
    path = Path(name)
    path.write_text(with_tables(path.read_text()))


if __name__ == "__main__":
    main(sys.argv[1:])
