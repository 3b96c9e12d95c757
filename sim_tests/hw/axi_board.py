"""A simulated board whose link is AXI: the accelerator, the real flash reader, the strict flash."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from amaranth.hdl import Module, Shape
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from qcompile.hw.accelerator import Accelerator
from qcompile.hw.axi.link import AxiLink
from qcompile.hw.axi.signatures import AXI_STREAM, axi_lite
from qcompile.hw.boards.icebreaker import ICEBREAKER
from qcompile.hw.config import AcceleratorConfig
from qcompile.hw.flash_reader import FlashPins, FlashReader
from qcompile.hw.link_ports import connect_link, link_info
from qcompile.runtime.protocol import REGISTER_ADDRESS_BITS
from sim_tests.hw import cosim, small_board
from sim_tests.hw.small_core import SmallCore

CLOCK_HZ = small_board.CLOCK_HZ
CONFIG = AcceleratorConfig(acc_width=28, vendor="plain")
TOP = "axi_board"
MODELS = ("flash_pads.v", "spi_flash.v")


class AxiSystem(wiring.Component):  # type: ignore[type-arg]  # generic in the stubs only
    """Accelerator (or what has its ports), AXI link and flash reader."""

    def __init__(self, core: Any, config: AcceleratorConfig) -> None:
        self._core = core
        self._info = link_info(config, CLOCK_HZ)
        super().__init__(
            {
                "axi": In(axi_lite(REGISTER_ADDRESS_BITS)),
                "words_i": In(AXI_STREAM),
                "words_o": Out(AXI_STREAM),
                "flash": Out(FlashPins),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        this: Any = self
        m.submodules.core = core = self._core
        m.submodules.link = link = AxiLink(self._info)
        m.submodules.reader = reader = FlashReader(clock_hz=CLOCK_HZ, lines=ICEBREAKER.flash_lines)
        for name in ("axi", "words_i", "words_o"):
            wiring.connect(m, wiring.flipped(getattr(this, name)), getattr(link, name))
        wiring.connect(m, wiring.flipped(this.flash), reader.pins)
        connect_link(m, link, core, reader)
        return m


def wrapper(component: wiring.Component[Any], inner: str, *, more: str = "") -> str:
    """A module TOP around the module `inner`, whose port `a__b` it has as `a_b`.

    The ports of `flash` stay inside, where `more` may connect them.
    """
    ports = ["input clk", "input settle", "input rst", "output violated"]
    connections = [".clk(clk)", ".rst(rst)"]
    wires = []
    for path, member, _ in component.signature.flatten(component):
        name, port = "__".join(map(str, path)), "_".join(map(str, path))
        connections.append(f".{name}({port})")
        width = Shape.cast(member.shape).width
        declaration = port if width == 1 else f"[{width - 1}:0] {port}"
        if path[0] == "flash":
            wires.append(f"wire {declaration};")
        else:
            ports.append(f"{'input' if member.flow == wiring.In else 'output'} {declaration}")
    return f"""
module {TOP} ({", ".join(ports)});
  {" ".join(wires)}
  {inner} inner ({", ".join(connections)});
  {more}
endmodule
"""


FLASH = """
  flash_pads pads (
      .clk(clk), .settle(settle), .select(flash_select), .clock(flash_clock),
      .d_o(flash_d_o), .d_oe(flash_d_oe), .d_i(flash_d_i), .violated(violated)
  );
"""


@cache
def simulation() -> cosim.Simulation:
    """The compiled board with the accelerator of CONFIG."""
    return _compiled(AxiSystem(Accelerator(CONFIG), CONFIG))


@cache
def small_simulation() -> cosim.Simulation:
    """The compiled board with the core and the configuration of `small_board`."""
    return _compiled(AxiSystem(SmallCore(pace=2), small_board.CONFIG))


def _compiled(system: AxiSystem) -> cosim.Simulation:
    models = resources.files("qcompile.hw") / "sim"
    parts = [
        ICEBREAKER.flash_part.verilog_defines(),
        *((models / name).read_text() for name in MODELS),
        cosim.with_random_memories(cosim.to_verilog(system, name="axi_system")),
        wrapper(system, "axi_system", more=FLASH),
    ]
    return cosim.build("".join(parts), TOP)


def link_alone(*, word_bytes: int, address_bits: int, queues: bool) -> cosim.Simulation:
    """The link to an accelerator with other memory words, whose ports are the bench's."""
    info = replace(link_info(CONFIG, CLOCK_HZ), columns=word_bytes)
    link = AxiLink(info, address_bits=address_bits, queues=queues)
    text = cosim.to_verilog(link, name="axi_link")
    return cosim.build(text + wrapper(link, "axi_link"), TOP)


def flash_arguments(image: Path, offset: int) -> list[str]:
    """Plusargs that fill the flash."""
    return [f"+flash={image}", f"+flash_offset={offset}"]
