// A strict model of an SPI flash: Winbond's W25Q..JV (W25Q128JV datasheet revision F) or Micron's
// N25Q032A13, as the macros say that `FlashPart.verilog_defines` of hw/flash_parts.py writes:
//   FLASH_SIZE_BITS    binary logarithm of its bytes
//   FLASH_JEDEC_ID     what 0x9F answers
//   FLASH_SLEEPS       0: without power-down; 0xAB and 0xB9 pass without effect
//   FLASH_QUAD_ENABLE  0: without status register 2 and all that depends on it
//
// It answers what the real part answers, and reports everything that the real part leaves
// undefined: unknown commands, commands in power-down or before tRES1 has passed, wrong numbers of
// clocks, addresses beyond its end, quad commands without the quad enable bit, lines that nobody
// drives, two drivers on one line, deselect times under 50 ns. A report goes to stderr and sets
// `violated`, which stays.
//
// The four lines come apart: `d` and `d_driven` are what others drive, `q` and `q_driven` what the
// flash drives. Its outputs are random from a falling clock edge until `settle` rises (at the
// latest 7 ns later on a real part), then right; they are let go when `settle` rises after a
// deselect.
//
// It starts in power-down where it has one, as an iCE40 leaves it after configuration.
//
// Plusargs: +flash=FILE and +flash_offset=BYTES: what it holds (elsewhere 0xFF).
//           +flash_quad_enable=0 or 1: the nonvolatile quad enable bit (default 0).
//           +flash_tres1=NS: time from 0xAB to the first command (default 3000).
//           +flash_dead=1: it never answers and never reports, as if it were not there.
`timescale 1ns / 1ps

module spi_flash (
    input            select_n,
    input            clock,
    input            settle,
    input      [3:0] d,
    input      [3:0] d_driven,
    output     [3:0] q,
    output     [3:0] q_driven,
    output reg       violated
);
  localparam [7:0] RELEASE = 8'hAB, POWER_DOWN = 8'hB9, JEDEC_ID = 8'h9F;
  localparam [7:0] READ_STATUS_1 = 8'h05, READ_STATUS_2 = 8'h35, WRITE_STATUS_2 = 8'h31;
  localparam [7:0] VOLATILE_ENABLE = 8'h50, WRITE_ENABLE = 8'h06;
  localparam [7:0] READ = 8'h03, FAST_READ = 8'h0B, DUAL_OUT = 8'h3B;
  localparam [7:0] QUAD_OUT = 8'h6B, QUAD_IO = 8'hEB;
  localparam [7:0] RESET_ENABLE = 8'h66, RESET = 8'h99, MODE_RESET = 8'hFF;
  localparam real TSHSL = 50.0, TRST = 30000.0, TW = 10000000.0;

  localparam integer BYTES = 1 << `FLASH_SIZE_BITS;
  localparam [23:0] ID = `FLASH_JEDEC_ID;

  reg [7:0] contents[0:BYTES-1];
  string file;
  integer handle, offset, index, quad_default, tres1, dead, plusargs, loaded;

  initial begin
    violated = 0;
    for (index = 0; index < BYTES; index = index + 1) contents[index] = 8'hFF;
    offset = 0;
    quad_default = 0;
    tres1 = 3000;
    dead = 0;
    plusargs = $value$plusargs("flash_offset=%d", offset);
    plusargs = $value$plusargs("flash_quad_enable=%d", quad_default);
    plusargs = $value$plusargs("flash_tres1=%d", tres1);
    plusargs = $value$plusargs("flash_dead=%d", dead);
    if ($value$plusargs("flash=%s", file)) begin
      handle = $fopen(file, "rb");
      if (handle == 0) violation("the contents cannot be opened");
      else begin
        loaded = $fread(contents, handle, offset);
        $fclose(handle);
      end
    end
    quad_enable = quad_default != 0;
  end

  // ------------------------------------------------------------------------------ state
  reg        powered_down = `FLASH_SLEEPS;
  reg        quad_enable;
  reg        write_enable = 0;
  reg        volatile_enable = 0;
  reg        reset_enable = 0;
  reg        continuous = 0;  // the next transaction begins with an address
  reg        in_continuous;  // this one did
  real       ready_time = 0.0;  // no command before
  real       busy_until = 0.0;  // status register write
  real       deselected_time = -1000.0;

  reg [31:0] clocks = 0;  // since select
  reg [7:0]  command;
  reg [23:0] address;
  reg [7:0]  mode;
  reg [7:0]  shifted;  // data byte that arrives
  reg [31:0] header;  // clocks before the first data bit
  reg        answering = 0;  // drives its outputs
  reg        settled;
  reg [2:0]  lanes;  // lines that answer: 1, 2 or 4
  reg [2:0]  bit_index;  // the highest bit that goes out
  reg [23:0] position;
  reg [3:0]  noise;

  function void violation(input string text);
    if (dead == 0) begin
      violated = 1;
      $fwrite(32'h80000002, "flash: %0s (%0.0f ns, command %02x, clock %0d)\n", text, $realtime,
              command, clocks);
    end
  endfunction

  // ------------------------------------------------------------------------------ outputs
  wire [7:0] status_1 = {6'b0, write_enable, $realtime < busy_until};
  wire [7:0] status_2 = {6'b0, quad_enable, 1'b0};
  reg  [7:0] byte_out;
  always @* begin
    case (command)
      READ_STATUS_1: byte_out = status_1;
      READ_STATUS_2: byte_out = status_2;
      JEDEC_ID: byte_out = position == 0 ? ID[23:16] : position == 1 ? ID[15:8] : ID[7:0];
      default: byte_out = contents[position[`FLASH_SIZE_BITS-1:0]];
    endcase
  end
  wire [7:0] leading = byte_out << (3'd7 - bit_index);
  wire [3:0] right = lanes == 4 ? leading[7:4]
                   : lanes == 2 ? {2'b00, leading[7:6]} : {2'b00, leading[7], 1'b0};
  wire [3:0] answered = lanes == 4 ? 4'b1111 : lanes == 2 ? 4'b0011 : 4'b0010;
  assign q_driven = answering && dead == 0 ? answered : 4'b0000;
  assign q = settled ? right : noise;

  always @(posedge settle) begin
    settled <= 1;
    if (select_n) answering <= 0;
  end
  always @(q_driven, d_driven)
    if ((q_driven & d_driven) != 0 && $realtime > 0) violation("two drivers on one line");

  // ------------------------------------------------------------------------------ selection
  always @(negedge select_n) begin
    if ($realtime - deselected_time < TSHSL) violation("selected again within 50 ns");
    if (clock) violation("selected while its clock is high");
    clocks = 0;
    command = continuous ? QUAD_IO : 8'h00;
    address = 0;
    mode = 8'hFF;
    in_continuous = continuous;
    header = continuous ? 12 : 0;
    answering = 0;
    lanes = 1;
    settled = 0;
  end

  always @(posedge select_n) begin
    deselected_time = $realtime;
if (clocks != 0 && dead == 0) finish;
  end

  // What a command does when the flash is deselected.
  task finish;
    begin
      case (command)
        RELEASE: if (exactly(8) && `FLASH_SLEEPS != 0) begin
          if (powered_down) ready_time = $realtime + tres1;
          powered_down = 0;
        end
        POWER_DOWN: if (exactly(8)) powered_down = `FLASH_SLEEPS;
        VOLATILE_ENABLE: if (exactly(8)) volatile_enable = 1;
        WRITE_ENABLE: if (exactly(8)) write_enable = 1;
        WRITE_STATUS_2: if (exactly(16)) begin
          if (!volatile_enable && !write_enable) violation("status write without an enable");
          if (write_enable) busy_until = $realtime + TW;
          quad_enable = shifted[1];
          volatile_enable = 0;
          write_enable = 0;
        end
        RESET_ENABLE: if (exactly(8)) reset_enable = 1;
        RESET: if (exactly(8)) begin
          if (!reset_enable) violation("reset without reset enable");
          reset_enable = 0;
          continuous = 0;
          quad_enable = quad_default != 0;
          ready_time = $realtime + TRST;
        end
        MODE_RESET: if (clocks != 8 && clocks != 16) violation("mode reset of neither 8 nor 16");
        QUAD_IO: if (clocks < header && !(in_continuous && clocks == 8 && &{address, mode}))
          violation("deselected before its end");
        default: if (clocks < header || clocks < 8) violation("deselected before its end");
      endcase
      if (command != RESET_ENABLE) reset_enable = 0;
    end
  endtask

  function exactly(input [31:0] number);  // and reports when not
    begin
      exactly = clocks == number;
      if (clocks != number) violation("deselected after a wrong number of clocks");
    end
  endfunction

  // ------------------------------------------------------------------------------ clocks
  always @(posedge clock) if (!select_n && dead == 0) begin
    clocks = clocks + 1;
    if (!in_continuous && clocks <= 8) begin
      need(4'b0001, "DI is driven by nobody");
      command = {command[6:0], d[0]};
      if (clocks == 8) begin_command;
    end else if (clocks <= header) take;
    else if (command == WRITE_STATUS_2) begin
      need(4'b0001, "DI is driven by nobody");
      shifted = {shifted[6:0], d[0]};
    end
    if (!quad_enable && (!d_driven[3] || !d[3])) violation("HOLD# is not driven high");
  end

  function void need(input [3:0] lines, input string text);
    if ((d_driven & lines) != lines) violation(text);
  endfunction

  // The eighth clock of a command: is it known and allowed, and how many clocks has its header?
  task begin_command;
    begin
      header = 8;
      case (command)
        RELEASE, POWER_DOWN, JEDEC_ID, READ_STATUS_1, WRITE_ENABLE: ;
        READ: header = 32;
        FAST_READ, DUAL_OUT: header = 40;
        default: begin_quad_part;
      endcase
      if (powered_down && command != RELEASE && command != MODE_RESET)
        violation("command in power-down");
      if ($realtime < ready_time) violation("command before the flash is ready");
      if ($realtime < busy_until && command != READ_STATUS_1) violation("command while busy");
      if ((command == QUAD_OUT || command == QUAD_IO) && !quad_enable)
        violation("quad command without the quad enable bit");
      position = 0;
      bit_index = 7;
    end
  endtask

  // Commands of parts with a quad enable bit alone.
  task begin_quad_part;
    begin
      if (`FLASH_QUAD_ENABLE == 0) violation("unknown command");
      case (command)
        READ_STATUS_2, WRITE_STATUS_2, VOLATILE_ENABLE, RESET_ENABLE, RESET, MODE_RESET: ;
        QUAD_OUT: header = 40;
        QUAD_IO: header = 20;
        default: violation("unknown command");
      endcase
    end
  endtask

  // A clock of the header after the command: address, mode, dummy.
  task take;
    if (command == QUAD_IO) begin  // six address nibbles, two of mode, four dummy clocks
      if (clocks <= header - 4) need(4'b1111, "a line of address or mode is driven by nobody");
      if (clocks <= header - 6) address = {address[19:0], d};
      else if (clocks <= header - 4) mode = {mode[3:0], d};
      if (clocks == header - 4) continuous = mode[5:4] == 2'b10;
    end else if (clocks <= 32) begin
      need(4'b0001, "DI is driven by nobody");
      address = {address[22:0], d[0]};
    end
  endtask

  // After the header's last clock and every later one the next bit or nibble goes out.
  always @(negedge clock) if (!select_n && dead == 0) begin
    settled <= 0;
    noise <= $urandom;
    if (header != 0 && clocks >= header) begin
      if (clocks == header) begin
        case (command)
          READ, FAST_READ, DUAL_OUT, QUAD_OUT, QUAD_IO: begin
            if (address >= BYTES) violation("address beyond its end");
            answering <= 1;
            position <= address;
          end
          JEDEC_ID, READ_STATUS_1, READ_STATUS_2: answering <= 1;
          default: ;
        endcase
        lanes <= command == QUAD_OUT || command == QUAD_IO ? 4 : command == DUAL_OUT ? 2 : 1;
        bit_index <= 7;
      end else begin
        bit_index <= bit_index - lanes;
        if (bit_index < lanes) position <= position + 1;
      end
    end
  end
endmodule
