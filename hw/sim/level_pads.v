// The cells between the pins of hw/lines/flash_program.py and a flash, and the flash, for tests
// without a board: a register in each direction, and a STARTUPE2's clock, which keeps the first
// three clocks to itself. Lines that nobody drives read random bits, or what +floating=0 or 1 says.
`timescale 1ns / 1ps

module level_pads (
    input            clk,
    input            select,
    input            clock,
    input      [3:0] d_o,
    input      [3:0] d_oe,
    output reg [3:0] d_i,
    output           violated
);
  reg select_n = 1, clock_q = 0;
  reg [1:0] swallowed = 0;
  reg [3:0] o = 0, oe = 0;
  wire [3:0] q, q_driven;
  reg [3:0] floating;
  integer level, given;
  initial begin
    level = 2;
    given = $value$plusargs("floating=%d", level);
  end
  wire [3:0] lines = (o & oe) | (q & q_driven) | (floating & ~oe & ~q_driven);

  always @(posedge clk) begin
    select_n <= !select;
    clock_q <= clock;
    if (clock_q && !clock && swallowed != 3) swallowed <= swallowed + 1;
    o <= d_o;
    oe <= d_oe;
    d_i <= lines;
    floating <= level == 2 ? $urandom : {4{level[0]}};
  end

  spi_flash flash (
      .select_n(select_n),
      .clock(clock_q && swallowed == 3),
      .settle(!clk),
      .d(lines),
      .d_driven(oe),
      .q(q),
      .q_driven(q_driven),
      .violated(violated)
  );
endmodule
