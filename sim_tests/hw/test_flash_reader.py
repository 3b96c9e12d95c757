"""The flash reader against the strict model of the flash: words, timing, recovery, refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qcompile.hw.flash_parts import N25Q032A13, W25Q32JV_IM, W25Q128JV, FlashPart
from qcompile.hw.flash_reader import FlashReader
from sim_tests.hw import cosim

pytestmark = pytest.mark.cosim

CLOCK_HZ = 25_000_000
Wiring = tuple[int, FlashPart]
"""Data lines and the part behind them."""
WIRINGS = ((4, W25Q128JV), (2, W25Q32JV_IM), (2, N25Q032A13), (1, W25Q32JV_IM))
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


@pytest.fixture(params=WIRINGS, ids=lambda wiring: f"{wiring[1].name}-x{wiring[0]}")
def wiring(request: pytest.FixtureRequest) -> Wiring:
    """How the flash is connected."""
    chosen: Wiring = request.param
    return chosen


def run(project: Path, folder: Path, seed: int, wiring: Wiring, test: str, *plusargs: str) -> None:
    """Run one cocotb test of flash_reader_bench on a flash full of random bytes."""
    lines, part = wiring
    (folder / "part.v").write_text(part.verilog_defines())
    models = [project / "hw" / "sim" / name for name in ("spi_flash.v", "flash_pads.v")]
    text = cosim.to_verilog(FlashReader(clock_hz=CLOCK_HZ, lines=lines)) + BENCH
    simulation = cosim.build(text, "bench", sources=[folder / "part.v", *models])
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
            "FLASH_LINES": str(lines),
            "SEED": str(seed),
        },
        plusargs=flash,
    )


@pytest.mark.parametrize("quad_enable", [0, 1])
def test_reader_wakes_the_flash_and_makes_it_quad(
    project: Path, tmp_path: Path, seed: int, quad_enable: int
) -> None:
    run(project, tmp_path, seed, WIRINGS[0], "wakes_up", f"+flash_quad_enable={quad_enable}")


def test_reader_wakes_every_part(project: Path, tmp_path: Path, seed: int, wiring: Wiring) -> None:
    run(project, tmp_path, seed, wiring, "wakes_up")


@pytest.mark.parametrize(
    ("wiring", "plusargs"),
    [
        ((4, N25Q032A13), ()),  # it has no status register 2
        ((2, W25Q32JV_IM), ("+flash_tres1=20000",)),  # awake later than the reader waits
    ],
)
def test_flash_model_reports_what_a_part_does_not_know(
    project: Path, tmp_path: Path, seed: int, wiring: Wiring, plusargs: tuple[str, ...]
) -> None:
    run(project, tmp_path, seed, wiring, "is_reported", *plusargs)


@pytest.mark.parametrize("level", [0, 1])
def test_reader_says_when_no_flash_answers(
    project: Path, tmp_path: Path, seed: int, wiring: Wiring, level: int
) -> None:
    dead = ("+flash_dead=1", f"+floating={level}")
    run(project, tmp_path, seed, wiring, "reports_silence", *dead)


@pytest.mark.parametrize("stalls", ["never", "sometimes", "mostly", "long"])
def test_words_come_in_order_when_the_consumer_stalls(
    project: Path, tmp_path: Path, seed: int, wiring: Wiring, stalls: str
) -> None:
    run(project, tmp_path, seed, wiring, f"keeps_order_{stalls}")


def test_words_come_as_fast_as_the_lines_bring_them(
    project: Path, tmp_path: Path, seed: int, wiring: Wiring
) -> None:
    run(project, tmp_path, seed, wiring, "keeps_full_rate")


def test_reader_restarts_and_stops_at_any_cycle(
    project: Path, tmp_path: Path, seed: int, wiring: Wiring
) -> None:
    run(project, tmp_path, seed, wiring, "restarts")


def test_crc_of_every_prefix_is_known(
    project: Path, tmp_path: Path, seed: int, wiring: Wiring
) -> None:
    run(project, tmp_path, seed, wiring, "knows_the_crc")


def test_clock_above_what_the_timing_allows_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"^clock_hz must be between 1 and 40000000, not 48000000$"
    ):
        FlashReader(clock_hz=48_000_000, lines=4)


def test_three_lines_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^lines must be 1, 2 or 4, not 3$"):
        FlashReader(clock_hz=CLOCK_HZ, lines=3)
