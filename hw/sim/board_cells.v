// The cells of the simulated board that Yosys's models cannot stand for in Verilator.

// An I/O cell. Yosys's model asks whether CLOCK_ENABLE floats (=== 1'bz), which Verilator does not
// do on a pin, and delays the clock by two delta cycles. This one has the same registers.
module SB_IO (
    inout  PACKAGE_PIN,
    input  LATCH_INPUT_VALUE,
    input  CLOCK_ENABLE,
    input  INPUT_CLK,
    input  OUTPUT_CLK,
    input  OUTPUT_ENABLE,
    input  D_OUT_0,
    input  D_OUT_1,
    output D_IN_0,
    output D_IN_1
);
  parameter [5:0] PIN_TYPE = 6'b000000;
  parameter [0:0] PULLUP = 1'b0;
  parameter [0:0] NEG_TRIGGER = 1'b0;
  parameter IO_STANDARD = "SB_LVCMOS";

  // Only what Amaranth's buffers use; anything else must not pass in silence.
  if (NEG_TRIGGER || (PIN_TYPE[1] && !PIN_TYPE[0])) $error("SB_IO: not a pin type of this model");

  reg in_0, in_1, out_0, out_1, enable;
  always @(posedge INPUT_CLK) in_0 <= PACKAGE_PIN;
  always @(negedge INPUT_CLK) in_1 <= PACKAGE_PIN;
  always @(posedge OUTPUT_CLK) out_0 <= D_OUT_0;
  always @(negedge OUTPUT_CLK) out_1 <= D_OUT_1;
  always @(posedge OUTPUT_CLK) enable <= OUTPUT_ENABLE;

  wire registered = OUTPUT_CLK || PIN_TYPE[2] ? out_0 : out_1;
  wire out = PIN_TYPE[3] ? (PIN_TYPE[2] ? !out_0 : D_OUT_0) : registered;
  if (PIN_TYPE[5:4] == 2'b01) assign PACKAGE_PIN = out;
  if (PIN_TYPE[5:4] == 2'b10) assign PACKAGE_PIN = OUTPUT_ENABLE ? out : 1'bz;
  if (PIN_TYPE[5:4] == 2'b11) assign PACKAGE_PIN = enable ? out : 1'bz;
  assign D_IN_0 = PIN_TYPE[0] ? PACKAGE_PIN : in_0;
  assign D_IN_1 = in_1;
endmodule

// The PLLs: pad or reference carry the core clock already. They lock after 20 clocks.

module SB_PLL40_PAD (
    inout  PACKAGEPIN,
    output PLLOUTCORE,
    output PLLOUTGLOBAL,
    input  EXTFEEDBACK,
    input  [7:0] DYNAMICDELAY,
    output LOCK,
    input  BYPASS,
    input  RESETB,
    input  LATCHINPUTVALUE,
    output SDO,
    input  SDI,
    input  SCLK
);
  parameter FEEDBACK_PATH = "SIMPLE";
  parameter DELAY_ADJUSTMENT_MODE_FEEDBACK = "FIXED";
  parameter DELAY_ADJUSTMENT_MODE_RELATIVE = "FIXED";
  parameter SHIFTREG_DIV_MODE = 1'b0;
  parameter FDA_FEEDBACK = 4'b0000;
  parameter FDA_RELATIVE = 4'b0000;
  parameter PLLOUT_SELECT = "GENCLK";
  parameter DIVR = 4'b0000;
  parameter DIVF = 7'b0000000;
  parameter DIVQ = 3'b000;
  parameter FILTER_RANGE = 3'b000;
  parameter ENABLE_ICEGATE = 1'b0;
  parameter TEST_MODE = 1'b0;
  parameter EXTERNAL_DIVIDE_FACTOR = 1;

  reg [4:0] clocks = 0;
  always @(posedge PACKAGEPIN) if (clocks != 20) clocks <= clocks + 1;
  assign PLLOUTCORE = PACKAGEPIN;
  assign PLLOUTGLOBAL = PACKAGEPIN;
  assign LOCK = clocks == 20;
  assign SDO = 0;
endmodule

module SB_PLL40_CORE (  // with the ports that the design connects
    input  REFERENCECLK,
    input  RESETB,
    input  BYPASS,
    output PLLOUTGLOBAL,
    output LOCK
);
  parameter FEEDBACK_PATH = "SIMPLE";
  parameter DIVR = 4'b0000;
  parameter DIVF = 7'b0000000;
  parameter DIVQ = 3'b000;
  parameter FILTER_RANGE = 3'b000;

  reg [4:0] clocks = 0;
  always @(posedge REFERENCECLK) if (clocks != 20) clocks <= clocks + 1;
  assign PLLOUTGLOBAL = REFERENCECLK;
  assign LOCK = clocks == 20;
endmodule
