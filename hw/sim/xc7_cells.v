// The cells of a simulated 7-series board that Yosys has no model of that does something.

// The PLL: its reference carries the array's clock already. It locks after 20 clocks.
module PLLE2_BASE (  // with the ports that the design connects
    input  CLKIN1,
    input  CLKFBIN,
    input  RST,
    input  PWRDWN,
    output CLKFBOUT,
    output CLKOUT0,
    output LOCKED
);
  parameter real CLKIN1_PERIOD = 0.0;
  parameter integer DIVCLK_DIVIDE = 1;
  parameter integer CLKFBOUT_MULT = 5;
  parameter integer CLKOUT0_DIVIDE = 1;

  // Xilinx DS181: VCO of 800 to 1600 MHz, in the slowest speed grade.
  localparam real VCO_MHZ = 1000.0 / CLKIN1_PERIOD * CLKFBOUT_MULT / DIVCLK_DIVIDE;
  if (VCO_MHZ < 799.9 || VCO_MHZ > 1600.1) $error("PLLE2_BASE: the VCO is out of its range");

  reg [4:0] clocks = 0;
  always @(posedge CLKIN1) if (RST || PWRDWN) clocks <= 0; else if (clocks != 20) clocks <= clocks + 1;
  assign CLKFBOUT = CLKIN1;
  assign CLKOUT0 = CLKIN1;
  assign LOCKED = clocks == 20;
endmodule

// The configuration clock's pin: the first three clocks of USRCCLKO do not come out (UG470).
module STARTUPE2 (  // with the ports that the design connects
    input CLK,
    input GSR,
    input GTS,
    input KEYCLEARB,
    input PACK,
    input USRCCLKO,
    input USRCCLKTS,
    input USRDONEO,
    input USRDONETS
);
  parameter PROG_USR = "FALSE";

  reg [1:0] swallowed = 0;
  always @(negedge USRCCLKO) if (swallowed != 3) swallowed <= swallowed + 1;
  wire cclk = USRCCLKO && !USRCCLKTS && swallowed == 3;
endmodule
