// The I/O cells of hw/flash_reader.py's FlashPins with a flash behind them, for tests without a
// board: registers in both directions, and a clock that is high in the second half of a cycle.
// `settle` must rise between a rising edge of `clk` and the next falling one. Lines that nobody
// drives read random bits, or what +floating=0 or 1 says.
`timescale 1ns / 1ps

module flash_pads (
    input            clk,
    input            settle,
    input            select,
    input            clock,
    input      [3:0] d_o,
    input      [3:0] d_oe,
    output reg [3:0] d_i,
    output           violated
);
  reg select_n = 1, clock_q = 0;
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
    o <= d_o;
    oe <= d_oe;
    d_i <= lines;
    floating <= level == 2 ? $urandom : {4{level[0]}};
  end

  spi_flash flash (
      .select_n(select_n),
      .clock(clock_q & !clk),
      .settle(settle),
      .d(lines),
      .d_driven(oe),
      .q(q),
      .q_driven(q_driven),
      .violated(violated)
  );
endmodule
