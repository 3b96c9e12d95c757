"""The devices that accelerators are made for: what each chip holds, and how large an array it gets.

A board (`hw/boards/`) names its device; everything that the compiler asks of a chip stands here.
"""

from __future__ import annotations

from dataclasses import dataclass

from qcompile.hw.config import AcceleratorConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A chip.

    Attributes
    ----------
    name, family : str
        As `--device` and `--target` take them; `name` is nextpnr's option as well.
    part : str
        The vendor's name.
    logic_cells, block_rams, block_ram_bits, multipliers, single_port_rams : int
        Cells of the chip: a LUT with its flip-flop; EBRs and the bits of one; SB_MAC16s;
        SB_SPRAM256KAs.
    config : AcceleratorConfig
        Default sizes; a compilation sets accumulator width and requantization for its model.
    clock_hz : int
        Core clock: a multiple of the link's 3 Mbaud that place and route meets with the margins.
    place_and_route : bool
        Whether tools at hand make a bitstream for it.
    untimed_cell_ns, margin_ns : float
        Added to the slowest path: the largest arc of cells that nextpnr does not time, and what
        the tables behind that arc do not hold.
    """

    name: str
    family: str
    part: str
    logic_cells: int
    block_rams: int
    block_ram_bits: int
    multipliers: int
    single_port_rams: int
    config: AcceleratorConfig
    clock_hz: int
    place_and_route: bool
    untimed_cell_ns: float
    margin_ns: float

    @property
    def activation_bytes(self) -> int:
        """Activation memory of the default sizes: two banks."""
        return 2 * self.config.bank_words * self.config.columns


UP5K = Device(
    name="up5k",
    family="ice40",
    part="iCE40UP5K",
    logic_cells=5280,
    block_rams=30,
    block_ram_bits=4096,
    multipliers=8,
    single_port_rams=4,
    config=AcceleratorConfig(),
    clock_hz=24_000_000,
    place_and_route=True,
    # nextpnr gives SB_MAC16 and SPRAM a fixed 0.1 ns; the largest real arc is SPRAM's clock to
    # output (specify block of Yosys's share/ice40/cells_sim.v, from Lattice's timing data).
    untimed_cell_ns=1.82,
    margin_ns=2.0,
)
"""Totals: iCE40 UltraPlus Family Data Sheet (FPGA-DS-02008), table 2.1."""

HX8K = Device(
    name="hx8k",
    family="ice40",
    part="iCE40HX8K",
    logic_cells=7680,
    block_rams=32,
    block_ram_bits=4096,
    multipliers=0,
    single_port_rams=0,
    config=AcceleratorConfig(bank_words=512, weight_depth=512, vendor="ice40hx"),
    clock_hz=24_000_000,
    place_and_route=True,
    # nextpnr has the timing of all cells that the design has on this chip.
    untimed_cell_ns=0.0,
    margin_ns=0.0,
)
"""Totals: iCE40 LP/HX Family Data Sheet (FPGA-DS-02029), table 2.1. Banks and weight FIFO share the
block RAMs; a compilation sets their sizes for its model (`compiler/memory_sizes.py`)."""

DEVICES = {device.name: device for device in (UP5K, HX8K)}
