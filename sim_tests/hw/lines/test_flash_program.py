# amaranth: UnusedElaboratable=no
"""The program from a board's flash, against the strict model of the flash."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qcompile.hw.flash_parts import N25Q128A, S25FL128S, W25Q128JV, FlashPart
from qcompile.hw.lines.flash_program import FlashProgram, FlashTiming
from sim_tests.hw import cosim
from sim_tests.hw.lines.flash_program_bench import BASE, CLOCK_HZ

BENCH = """
module bench(input clk, input rst, input start, input [20:0] start_address, input stop,
    input o__ready, output o__valid, output [63:0] o__payload, output ready, output error,
    output violated);
  wire select, clock;
  wire [3:0] d_o, d_oe, d_i;
  dut dut(.clk(clk), .rst(rst), .start(start), .start_address(start_address), .stop(stop),
    .o__ready(o__ready), .o__valid(o__valid), .o__payload(o__payload), .ready(ready),
    .error(error), .pins__select(select), .pins__clock(clock), .pins__d_o(d_o),
    .pins__d_oe(d_oe), .pins__d_i(d_i));
  level_pads pads(.clk(clk), .select(select), .clock(clock), .d_o(d_o), .d_oe(d_oe), .d_i(d_i),
    .violated(violated));
endmodule
"""
WIRINGS = ((3, 2, S25FL128S), (2, 2, N25Q128A), (4, 1, S25FL128S), (5, 4, W25Q128JV))
"""Divider, data lines and the part behind them."""


@pytest.mark.cosim
@pytest.mark.parametrize(
    "test", ["keeps_full_rate", "comes_when_the_compiler_says", "restarts", "reports_silence"]
)
@pytest.mark.parametrize("wiring", WIRINGS, ids=lambda w: f"{w[2].name}-x{w[1]}-{w[0]}")
def test_words_come_in_order_and_on_time(
    project: Path, tmp_path: Path, seed: int, wiring: tuple[int, int, FlashPart], test: str
) -> None:
    divider, lines, part = wiring
    (tmp_path / "part.v").write_text(part.verilog_defines())
    models = [project / "hw" / "sim" / name for name in ("spi_flash.v", "level_pads.v")]
    timing = FlashTiming(clock_hz=CLOCK_HZ, divider=divider, lines=lines)
    text = cosim.to_verilog(FlashProgram(timing)) + BENCH
    simulation = cosim.build(text, "bench", sources=[tmp_path / "part.v", *models])
    words = np.random.default_rng(seed).integers(0, 1 << 64, 600, np.uint64)
    (tmp_path / "flash.bin").write_bytes(words.astype("<u8").tobytes())
    dead = ["+flash_dead=1", "+floating=1"] if test == "reports_silence" else []
    cosim.run_module(
        simulation,
        "sim_tests.hw.lines.flash_program_bench",
        tmp_path,
        seed=seed,
        environment={
            "COCOTB_TEST_FILTER": rf"\.{test}$",
            "FLASH_CONTENTS": str(tmp_path / "flash.bin"),
            "FLASH_DIVIDER": str(divider),
            "FLASH_LINES": str(lines),
            "QCOMPILE_SEED": str(seed),
        },
        plusargs=[f"+flash={tmp_path / 'flash.bin'}", f"+flash_offset={BASE}", *dead],
    )


def test_settings_that_no_flash_is_read_with_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^divider must be 2 or more, not 1$"):
        FlashTiming(clock_hz=40_000_000, divider=1, lines=2)
    with pytest.raises(ValueError, match=r"^lines must be 1, 2 or 4, not 3$"):
        FlashTiming(clock_hz=100_000_000, divider=3, lines=3)
