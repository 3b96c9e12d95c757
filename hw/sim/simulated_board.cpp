// The simulated board: the FPGA's top level (a Verilated `fpga`), a serial line at bit level and a
// flash (a Verilated `spi_flash`) on its pins. compiler/simulated_board.py builds it,
// runtime/transport.py talks to it.
//
// Simulated time passes only while the host waits, so the result never depends on how fast this
// program runs. Commands on stdin, little-endian:
//   'W' u32 n, n bytes            the host sends n bytes (they leave during the next waits)
//   'R' u32 n, u64 nanoseconds    wait until n bytes have come, or for so long
// and the reply to 'R' on stdout: u32 count, count bytes. End of input ends the simulation.
//
// Exit codes: 0, 1 when the flash model reported a violation or a byte had no stop bit (each on
// stderr), 2 for wrong arguments.
//
// Arguments: +clock_hz=N +baud=N, +host_baud=N (default: baud) the rate of the host's end,
// +floating=0 or 1 what lines that nobody drives read (default: random bits), +statistics=1
// prints clocks and seconds at the end; and those of spi_flash.v and Verilator.

#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "Vflash.h"
#include "Vfpga.h"
#include "verilated.h"

namespace {

// The host's end of the serial line; times are in picoseconds.
class HostUart {
 public:
  explicit HostUart(double bit) : bit_(bit) {}

  void send(uint8_t byte) { outgoing_.push_back(byte); }

  // Level of the line from the host at this time.
  bool line_to_board(double now) {
    if (sending_ && now >= send_start_ + 10 * bit_) sending_ = false;
    if (!sending_) {
      if (outgoing_.empty()) return true;
      current_ = static_cast<uint16_t>(0x200 | outgoing_.front() << 1);  // stop, data, start
      outgoing_.pop_front();
      send_start_ = now;
      sending_ = true;
    }
    return current_ >> static_cast<int>((now - send_start_) / bit_) & 1;
  }

  // Look at the line from the board at this time; false when a stop bit was missing.
  bool line_from_board(double now, bool level) {
    bool right = true;
    if (receiving_ < 0) {
      if (!level && previous_) {
        receiving_ = 0;
        sample_time_ = now + bit_ / 2;
      }
    } else if (now >= sample_time_) {
      sample_time_ += bit_;
      if (receiving_ >= 1 && receiving_ <= 8) byte_ = static_cast<uint8_t>(byte_ >> 1 | level << 7);
      if (receiving_ == 9) {
        right = level;
        incoming.push_back(byte_);
      }
      receiving_ = receiving_ == 9 || (receiving_ == 0 && level) ? -1 : receiving_ + 1;
    }
    previous_ = level;
    return right;
  }

  std::deque<uint8_t> incoming;

 private:
  double bit_;
  std::deque<uint8_t> outgoing_;
  bool sending_ = false;
  uint16_t current_ = 0x3FF;
  double send_start_ = 0;
  bool previous_ = true;
  int receiving_ = -1;
  uint8_t byte_ = 0;
  double sample_time_ = 0;
};

class Board {
 public:
  Board(VerilatedContext* context, double clock_hz, double host_baud, int floating)
      : uart_(1e12 / host_baud),
        context_(context),
        fpga_(context, "fpga"),
        flash_(context, "flash"),
        period_(1e12 / clock_hz),
        random_(context->randSeed()),
        floating_(floating) {
    fpga_.clk = 0;
    fpga_.rx = 1;
    fpga_.dq = 0xF;
    fpga_.eval();
    flash_.select_n = 1;
    flash_.clock = 0;
    flash_.settle = 0;
    flash_.eval();
  }

  ~Board() {
    fpga_.final();
    flash_.final();
  }

  // One core clock in three steps: rising edge, the flash's outputs settle, falling edge.
  void clock() {
    double now = clocks * period_;
    fpga_.rx = uart_.line_to_board(now);
    at(now);
    fpga_.clk = 1;
    fpga_.eval();
    connect();
    if (!flash_.settle && (flash_active_ || !flash_.select_n)) {
      at(now + period_ / 4);
      flash_.settle = 1;
      flash_.eval();
      flash_.settle = 0;
      flash_.eval();
      flash_active_ = !flash_.select_n;
      resolve();
    }
    at(now + period_ / 2);
    fpga_.clk = 0;
    fpga_.eval();
    connect();
    ++clocks;
    if (!uart_.line_from_board(now, fpga_.tx)) {
      std::fprintf(stderr, "uart: a byte from the board has no stop bit (clock %llu)\n",
                   static_cast<unsigned long long>(clocks));
      failed = true;
    }
    failed |= flash_.violated;
  }

  bool failed = false;
  uint64_t clocks = 0;

  double period() const { return period_; }
  HostUart& uart() { return uart_; }

 private:
  HostUart uart_;
  VerilatedContext* context_;
  Vfpga fpga_;
  Vflash flash_;
  double period_;
  std::mt19937 random_;
  int floating_;  // level of lines that nobody drives; 2: random
  bool flash_active_ = false;  // it may still drive its outputs

  void at(double picoseconds) { context_->time(static_cast<uint64_t>(picoseconds)); }

  // The FPGA's pins to the flash where they have changed, and the lines back.
  void connect() {
    uint8_t lines = line_levels();
    if (flash_.select_n != fpga_.cs_n || flash_.clock != fpga_.sck || flash_.d != lines ||
        flash_.d_driven != driven()) {
      flash_active_ |= !fpga_.cs_n;
      flash_.select_n = fpga_.cs_n;
      flash_.clock = fpga_.sck;
      flash_.d = lines;
      flash_.d_driven = driven();
      flash_.eval();
    }
    resolve();
  }

  // Lines that the FPGA or the board's pull-ups drive.
  uint8_t driven() const { return (fpga_.dq__en | fpga_.pulled_up) & 0xF; }

  uint8_t line_levels() {
    uint8_t mine = driven(), its = flash_.q_driven & ~mine;
    uint8_t floating = static_cast<uint8_t>(floating_ == 2 ? random_() : -floating_);
    uint8_t out = (fpga_.dq__out & fpga_.dq__en) | fpga_.pulled_up;
    return (out & mine) | (flash_.q & its) | (floating & ~(mine | its) & 0xF);
  }

  void resolve() { fpga_.dq = line_levels(); }
};

bool read_all(void* target, size_t size) {
  return std::fread(target, 1, size, stdin) == size;
}

double number(VerilatedContext& context, const char* name, double otherwise) {
  std::string match = context.commandArgsPlusMatch((std::string(name) + "=").c_str());
  return match.empty() ? otherwise : std::atof(match.c_str() + 2 + std::strlen(name));
}

void reply(HostUart& uart, size_t wanted) {
  size_t count = std::min(wanted, uart.incoming.size());
  uint32_t length = static_cast<uint32_t>(count);
  std::vector<uint8_t> bytes(uart.incoming.begin(), uart.incoming.begin() + count);
  uart.incoming.erase(uart.incoming.begin(), uart.incoming.begin() + count);
  std::fwrite(&length, sizeof length, 1, stdout);
  std::fwrite(bytes.data(), 1, bytes.size(), stdout);
  std::fflush(stdout);
}

void serve(Board& board) {
  char command;
  while (read_all(&command, 1)) {
    uint32_t count;
    if (!read_all(&count, sizeof count)) return;
    if (command == 'W') {
      std::vector<uint8_t> bytes(count);
      if (!read_all(bytes.data(), count)) return;
      for (uint8_t byte : bytes) board.uart().send(byte);
    } else {
      uint64_t nanoseconds;
      if (!read_all(&nanoseconds, sizeof nanoseconds)) return;
      uint64_t end = board.clocks + static_cast<uint64_t>(nanoseconds * 1e3 / board.period());
      while (board.uart().incoming.size() < count && board.clocks < end && !board.failed)
        board.clock();
      reply(board.uart(), count);
      if (board.failed) return;
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  auto context = std::make_unique<VerilatedContext>();
  context->commandArgs(argc, argv);
  context->timeunit(-9);
  context->timeprecision(-12);
  double clock_hz = number(*context, "clock_hz", 0), baud = number(*context, "baud", 0);
  if (clock_hz <= 0 || baud <= 0) {
    std::fprintf(stderr, "simulated_board: +clock_hz=N and +baud=N are needed\n");
    return 2;
  }
  double host_baud = number(*context, "host_baud", baud);
  bool statistics = number(*context, "statistics", 0) > 0;
  auto begin = std::chrono::steady_clock::now();
  Board board(context.get(), clock_hz, host_baud, static_cast<int>(number(*context, "floating", 2)));
  serve(board);
  if (statistics) {
    std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    std::fprintf(stderr, "simulated_board: %llu clocks in %.3f s\n",
                 static_cast<unsigned long long>(board.clocks), seconds.count());
  }
  return board.failed ? 1 : 0;
}
