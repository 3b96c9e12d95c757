"""The flash reader against the strict model of the flash: words, timing, recovery, refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qcompile.hw.flash_reader import FlashReader
from sim_tests.hw import cosim

pytestmark = pytest.mark.cosim

CLOCK_HZ = 25_000_000
BENCH = """
module bench(input clk, input settle);
  reg rst = 1, start = 0, stop = 0, o_ready = 0;
  reg [23:0] address = 0;
  wire [15:0] o;
  wire o_valid, crc_ok, ready, error, violated, select, clock;
  wire [3:0] d_o, d_oe, d_i;
  dut dut(.clk(clk), .rst(rst), .start(start), .stop(stop), .address(address),
    .o__payload(o), .o__valid(o_valid), .o__ready(o_ready), .crc_ok(crc_ok),
    .ready(ready), .error(error), .pins__select(select), .pins__clock(clock),
    .pins__d_o(d_o), .pins__d_oe(d_oe), .pins__d_i(d_i));
  flash_pads pads(.clk(clk), .settle(settle), .select(select), .clock(clock),
    .d_o(d_o), .d_oe(d_oe), .d_i(d_i), .violated(violated));
endmodule
"""


def run(project: Path, folder: Path, seed: int, test: str, *plusargs: str) -> None:
    """Run one cocotb test of flash_reader_bench on a flash full of random bytes."""
    models = [project / "hw" / "sim" / name for name in ("w25q128.v", "flash_pads.v")]
    text = cosim.to_verilog(FlashReader(clock_hz=CLOCK_HZ)) + BENCH
    simulation = cosim.build(text, "bench", sources=models)
    contents = np.random.default_rng(seed).integers(0, 256, 4096, np.uint8)
    (folder / "flash.bin").write_bytes(contents.tobytes())
    flash = [f"+flash={folder / 'flash.bin'}", "+flash_offset=1048576", *plusargs]
    cosim.run_module(
        simulation,
        "sim_tests.hw.flash_reader_bench",
        folder,
        seed=seed,
        environment={
            "COCOTB_TEST_FILTER": rf"\.{test}$",
            "FLASH_CONTENTS": str(folder / "flash.bin"),
            "SEED": str(seed),
        },
        plusargs=flash,
    )


@pytest.mark.parametrize("quad_enable", [0, 1])
def test_reader_wakes_the_flash_and_makes_it_quad(
    project: Path, tmp_path: Path, seed: int, quad_enable: int
) -> None:
    run(project, tmp_path, seed, "wakes_up", f"+flash_quad_enable={quad_enable}")


@pytest.mark.parametrize("level", [0, 1])
def test_reader_says_when_no_flash_answers(
    project: Path, tmp_path: Path, seed: int, level: int
) -> None:
    run(project, tmp_path, seed, "reports_silence", "+flash_dead=1", f"+floating={level}")


@pytest.mark.parametrize("stalls", ["never", "sometimes", "mostly", "long"])
def test_words_come_in_order_when_the_consumer_stalls(
    project: Path, tmp_path: Path, seed: int, stalls: str
) -> None:
    run(project, tmp_path, seed, f"keeps_order_{stalls}")


def test_words_come_every_four_cycles(project: Path, tmp_path: Path, seed: int) -> None:
    run(project, tmp_path, seed, "keeps_full_rate")


def test_reader_restarts_and_stops_at_any_cycle(project: Path, tmp_path: Path, seed: int) -> None:
    run(project, tmp_path, seed, "restarts")


def test_crc_of_every_prefix_is_known(project: Path, tmp_path: Path, seed: int) -> None:
    run(project, tmp_path, seed, "knows_the_crc")


def test_clock_above_what_the_timing_allows_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"^clock_hz must be between 1 and 40000000, not 48000000$"
    ):
        FlashReader(clock_hz=48_000_000)
