"""Verilog of an array of lines with a flash at its pins: what simulations without a board drive."""

from __future__ import annotations

import re
from pathlib import Path

from qcompile import hw

TOP = "flash_bench"
MODELS = tuple(Path(hw.__file__).parent / "sim" / name for name in ("spi_flash.v", "level_pads.v"))
PORT = re.compile(r"^  (input|output) (\[\d+:0\] )?(\w+);$", re.MULTILINE)


def flash_bench(accelerator: str, name: str = "accelerator") -> str:
    """Module `TOP`: the array's ports but for the flash's, and `flash_violated`, which the model of
    the flash raises."""
    module = re.search(rf"^module {name}\b.*?^endmodule$", accelerator, re.MULTILINE | re.DOTALL)
    assert module is not None, f"the Verilog has a module {name}"
    ports = PORT.findall(module[0])
    outer = [port for port in ports if not port[2].startswith("flash__")]
    declared = "".join(f",\n    {kind} {width}{port}" for kind, width, port in outer)
    connected = ", ".join(f".{port}({port})" for _, _, port in ports)
    return f"""
module {TOP} (
    output flash_violated{declared}
);
  wire flash__select, flash__clock;
  wire [3:0] flash__d_o, flash__d_oe, flash__d_i;
  {name} {name} ({connected});
  level_pads pads (.clk(clk), .select(flash__select), .clock(flash__clock), .d_o(flash__d_o),
      .d_oe(flash__d_oe), .d_i(flash__d_i), .violated(flash_violated));
endmodule
"""
