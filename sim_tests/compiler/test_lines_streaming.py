"""Arrays of lines for models whose weights do not fit block RAM: from the board's flash."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from qcompile.compiler.errors import CapacityError
from qcompile.compiler.flow import Options
from qcompile.compiler.lines import sizing
from qcompile.compiler.lines.flow import LinesFlow
from qcompile.compiler.lines.sizing import SizesOf
from qcompile.compiler.pipeline import load_model
from qcompile.hw.boards import LINES_BOARDS
from qcompile.hw.boards.arty_a7 import ARTY_A7_35T, FLASH
from qcompile.hw.lines.devices import DEVICES
from qcompile.runtime.layouts import IMAGE_FIELD_BYTES
from sim_tests.compiler.test_lines_sizing import fully_connected
from sim_tests.zoo import SHARED

TIMING = FLASH.timing(100_000_000)
DEVICE = DEVICES["xc7a35t"]


def test_weights_come_from_the_flash_where_they_do_not_fit() -> None:
    model = fully_connected(640, 640)
    with pytest.raises(CapacityError, match="no array of lines fits xc7a35t"):
        sizing.Sizes(model).best(DEVICE)
    chosen = sizing.Sizes(model, resident_rows=0).best(DEVICE, TIMING)
    assert chosen.config.streams and sizing.fits(chosen.resources, DEVICE)
    assert set(chosen.limits().values()) == {"weight bandwidth"}
    # 8 bytes in 4 x 8 flash clocks of 3 cycles each.
    assert chosen.total_cycles > 640 * 640 / 8 * 96
    predicted = sum(layer.cycles for layer in chosen.running.cycles())
    assert chosen.total_cycles == pytest.approx(predicted, rel=0.05)
    assert len(chosen.running.program.words) * 96 < predicted


def test_block_ram_that_is_left_keeps_weights() -> None:
    model = fully_connected(640, 640)
    without = sizing.Sizes(model, resident_rows=0).best(DEVICE, TIMING)
    chosen = sizing.Sizes(model).best(DEVICE, TIMING)
    assert sizing.fits(chosen.resources, DEVICE)
    config, compiled = chosen.config, chosen.running
    assert compiled.resident_rows == config.weight_rows - without.config.weight_rows
    saved = len(without.running.program.words) - len(compiled.program.words)
    room = compiled.resident_rows * config.lines * config.columns
    assert 0.8 * room < 8 * saved <= 1.01 * room
    # What is not sent with every run is sent once: the same packets, and the end.
    assert len(compiled.program.load) == saved + 2
    assert without.total_cycles - chosen.total_cycles == pytest.approx(96 * saved, rel=0.01)


def test_weights_that_fit_block_ram_stand_there() -> None:
    model = fully_connected(32, 32)
    assert not sizing.Sizes(model).best(DEVICE, TIMING).config.streams
    forced = sizing.Sizes(model, streams=True)
    assert forced.best(DEVICE, TIMING).config.streams
    assert not forced.best(DEVICE).config.streams


def test_a_board_without_a_flash_of_its_own_names_one_that_has_it() -> None:
    flow = LinesFlow(LINES_BOARDS["pynq_z2"], SizesOf())
    with pytest.raises(CapacityError) as caught:
        flow.check(fully_connected(1100, 1100), Options())
    assert caught.value.message == "no array of lines fits xc7z020"
    help = "use --board arty_a7_100t: its array takes weights from the board's flash"
    assert caught.value.help == help


def test_a_flash_does_not_help_with_activations() -> None:
    with pytest.raises(CapacityError) as caught:
        sizing.Sizes(fully_connected(16, 16, (150, 151))).best(DEVICE, TIMING)
    _, _, first, second, _ = str(caught.value).split("\n")
    assert re.search(r"activations take [\d.]+ of them: the largest is '(x0|y1)'", first)
    assert second.endswith("256 bytes, 256 of them in 'y1'; a few layers' stand in block RAM")


def test_check_tells_the_bytes_of_the_flash() -> None:
    checked = LinesFlow(ARTY_A7_35T, SizesOf()).check(fully_connected(640, 640), Options())
    assert checked.flash is not None
    assert checked.flash["weight_bytes"] == 640 * 640
    assert checked.flash["available_bytes"] == (16 << 20) - 0x400000
    image = checked.flash["image_bytes"]
    assert image % 8 == 0 and 640 * 640 + IMAGE_FIELD_BYTES < image < 1.1 * 640 * 640
    machine = checked.figures.machine
    assert machine is not None
    assert machine["weights from"].startswith("the board's flash, 2 lines at 33.3 MHz: 8.33 MB/s")


@pytest.mark.parametrize(
    ("network", "most"), [("mlpt_vww_mbv1_025", 2_000_000), ("mlpt_ad_toycar", 1_700_000)]
)
def test_networks_that_a_small_device_does_not_hold_fit_with_its_flash(
    network: str, most: int
) -> None:
    path: Path = SHARED / "models" / f"{network}.onnx"
    if not path.exists():
        pytest.skip(f"no {path.name} in the shared folder")
    chosen = sizing.Sizes(load_model(path)).best(DEVICE, TIMING)
    assert chosen.config.streams and sizing.fits(chosen.resources, DEVICE)
    assert chosen.total_cycles <= most
