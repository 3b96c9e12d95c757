// The accelerator with its flash reader and a flash: what `qcompile sim` simulates. No board and no
// serial line; the host port is the simulator's. `settle` as flash_pads.v wants it.
`timescale 1ns / 1ps

module core_bench (
    input         clk,
    input         settle,
    input         rst,
    input         host_valid,
    output        host_ready,
    input         host_write,
    input  [14:0] host_address,
    input  [31:0] host_write_data,
    output [31:0] host_data,
    output        host_data_valid,
    input         start,
    input         resume,
    input         abort,
    input  [15:0] stop_after,
    input  [23:0] program_address,
    output [ 2:0] state,
    output [ 7:0] error,
    output [15:0] layers_done,
    output [31:0] cycles,
    output        flash_ready,
    output        flash_error,
    output        flash_violated
);
  wire [15:0] word;
  wire word_valid, word_ready, crc_ok, program_start, program_stop, select, flash_clock;
  wire [3:0] d_o, d_oe, d_i;

  accelerator accelerator (
      .clk(clk),
      .rst(rst),
      .program__payload(word),
      .program__valid(word_valid),
      .program__ready(word_ready),
      .program_crc_ok(crc_ok),
      .program_start(program_start),
      .program_stop(program_stop),
      .host_valid(host_valid),
      .host_ready(host_ready),
      .host_write(host_write),
      .host_address(host_address),
      .host_write_data(host_write_data),
      .host_data(host_data),
      .host_data_valid(host_data_valid),
      .start(start),
      .stop_after(stop_after),
      .resume(resume),
      .abort(abort),
      .state(state),
      .error(error),
      .layers_done(layers_done),
      .cycles(cycles)
  );

  flash_reader reader (
      .clk(clk),
      .rst(rst),
      .start(program_start),
      .stop(program_stop),
      .address(program_address),
      .o__payload(word),
      .o__valid(word_valid),
      .o__ready(word_ready),
      .crc_ok(crc_ok),
      .ready(flash_ready),
      .error(flash_error),
      .pins__select(select),
      .pins__clock(flash_clock),
      .pins__d_o(d_o),
      .pins__d_oe(d_oe),
      .pins__d_i(d_i)
  );

  flash_pads pads (
      .clk(clk),
      .settle(settle),
      .select(select),
      .clock(flash_clock),
      .d_o(d_o),
      .d_oe(d_oe),
      .d_i(d_i),
      .violated(flash_violated)
  );
endmodule
