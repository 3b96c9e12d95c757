# amaranth: UnusedElaboratable=no
"""The memories of the array of lines are block RAM on 7-series, no more than their bits need."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from amaranth.lib import wiring

from qcompile.hw.lines.config import LinesConfig
from qcompile.hw.lines.memory import LinesMemory
from qcompile.hw.lines.program_memory import ProgramMemory
from qcompile.hw.lines.weights import WeightMemory
from sim_tests.hw import xc7

CONFIG = LinesConfig(lines=2, columns=4, lanes=1)
WEIGHTS = np.arange(-20, 20, dtype=np.int8).reshape(10, 4)


@pytest.mark.cosim
@pytest.mark.parametrize(
    ("component", "expected"),
    [
        # 512 words of 32 bits are half a block of 36 Kbit.
        (LinesMemory(CONFIG), 4 / 2),
        (WeightMemory(CONFIG, init=WEIGHTS), 2 / 2),
        (ProgramMemory(512, init=[1, 2, 3]), 1),
    ],
    ids=["activations", "weights", "program"],
)
def test_memory_is_block_ram(component: wiring.Component[Any], expected: float) -> None:
    netlist = xc7.synthesize(component)
    assert netlist.block_rams == expected
    assert not {name for name in netlist.cells if name in xc7.MEMORY_LUTS}
