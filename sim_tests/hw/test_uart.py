"""UART receiver and transmitter, and the bit-serial CRC, against bytes and zlib."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from qcompile.hw.crc import SerialCrc32
from qcompile.hw.uart import UartReceiver, UartTransmitter, clocks_per_bit
from sim_tests.hw import cosim


def line(
    data: npt.NDArray[np.int64], clocks: float, rng: np.random.Generator, *, longest_gap: float
) -> npt.NDArray[np.int64]:
    """The serial line, one sample a clock: each byte begins anywhere within a clock."""
    edges, levels = [0.0], [1]
    now = 10.0
    for byte in data:
        now += rng.uniform(0, longest_gap)
        bits = [0, *(int(byte) >> bit & 1 for bit in range(8)), 1]
        edges += [now + clocks * index for index in range(10)]
        levels += bits
        now += 10 * clocks
    samples = np.arange(int(now + 4 * clocks))
    return np.array(levels)[np.searchsorted(edges, samples, side="right") - 1]


@pytest.mark.cosim
@pytest.mark.parametrize("clocks", [8, 10])
@pytest.mark.parametrize("mismatch", [-0.02, 0.0, 0.02])
@pytest.mark.parametrize("longest_gap", [0.0, 30.0])
def test_receiver_takes_every_byte_of_a_sender_two_percent_off(
    tmp_path: Path,
    rng: np.random.Generator,
    seed: int,
    clocks: int,
    mismatch: float,
    longest_gap: float,
) -> None:
    data = np.concatenate([[0x00, 0xFF, 0x55, 0xAA, 0x01, 0x80], rng.integers(0, 256, 300)])
    rx = line(data, clocks * (1 + mismatch), rng, longest_gap=longest_gap)
    receiver = UartReceiver(clocks=clocks)
    out = cosim.run_vectors(receiver, {"rx": rx}, tmp_path, seed=seed)
    assert out["data"][out["valid"] == 1].tolist() == data.tolist()
    bits = out["data_bit"][out["data_bit_valid"] == 1].reshape(-1, 8)
    assert np.packbits(bits, axis=1, bitorder="little")[:, 0].tolist() == data.tolist()


@pytest.mark.cosim
def test_receiver_ignores_glitches_and_a_line_that_stays_low(
    tmp_path: Path, rng: np.random.Generator, seed: int
) -> None:
    glitch = np.concatenate([np.ones(20), np.zeros(3), np.ones(30)]).astype(np.int64)
    broken = np.concatenate([np.zeros(500), np.ones(100)]).astype(np.int64)
    good = line(np.array([0x5A]), 8, rng, longest_gap=0)
    rx = np.concatenate([glitch, good, broken, good])
    out = cosim.run_vectors(UartReceiver(clocks=8), {"rx": rx}, tmp_path, seed=seed)
    assert out["data"][out["valid"] == 1].tolist() == [0x5A, 0x00, 0x5A]


@pytest.mark.cosim
@pytest.mark.parametrize("clocks", [8, 10])
def test_transmitter_sends_what_it_took_back_to_back(
    tmp_path: Path, rng: np.random.Generator, seed: int, clocks: int
) -> None:
    cycles = 120 * clocks * 10
    valid, payload = rng.integers(0, 2, cycles), rng.integers(0, 256, cycles)
    valid[: cycles // 2] = 1
    out = cosim.run_vectors(
        UartTransmitter(clocks=clocks),
        {"i__valid": valid, "i__payload": payload},
        tmp_path,
        seed=seed,
    )
    taken = np.flatnonzero(out["i__ready"] & valid)
    assert set(np.diff(taken[taken < cycles // 2]).tolist()) == {10 * clocks}
    for start in taken[:-1]:
        bits = out["tx"][start + 1 + clocks // 2 + clocks * np.arange(10)]
        sent = [0, *(payload[start] >> np.arange(8) & 1).tolist(), 1]
        assert bits.tolist() == sent, f"byte taken in cycle {start}"
    bits = out["data_bit"][out["data_bit_valid"] == 1]
    whole = bits[: len(bits) // 8 * 8].reshape(-1, 8)
    told = np.packbits(whole, axis=1, bitorder="little")[:, 0].tolist()
    assert told == payload[taken][: len(told)].tolist()


@pytest.mark.cosim
def test_serial_crc_is_zlib_s_and_shifts_out_in_sending_order(tmp_path: Path, seed: int) -> None:
    message = b"123456789"
    bits = np.unpackbits(np.frombuffer(message, np.uint8), bitorder="little").astype(np.int64)
    steps = len(bits) + 32
    shift_only = np.repeat([0, 1], [len(bits), 32])
    inputs = {
        "clear": np.concatenate([[1], np.zeros(steps)]),
        "enable": np.concatenate([[1], np.ones(steps)]),
        "data_bit": np.concatenate([[1], bits, np.ones(32)]),
        "shift_only": np.concatenate([[0], shift_only]),
    }
    low = cosim.run_vectors(SerialCrc32(), inputs, tmp_path, seed=seed)["low"]
    sent = bytes((~low[1 + len(bits) :: 8][:4] & 0xFF).tolist())
    assert int.from_bytes(sent, "little") == zlib.crc32(message) == 0xCBF43926


def test_clock_that_cannot_make_the_baud_rate_is_refused() -> None:
    assert clocks_per_bit(24_000_000, 3_000_000) == 8
    assert clocks_per_bit(30_000_000, 3_000_000) == 10
    message = "a clock of 25000000 Hz makes 3000000 baud only within 4.2%"
    with pytest.raises(ValueError, match=f"^{message}$"):
        clocks_per_bit(25_000_000, 3_000_000)
    message = "3000000 baud needs a clock of 18000000 Hz or more, not 12000000"
    with pytest.raises(ValueError, match=f"^{message}$"):
        clocks_per_bit(12_000_000, 3_000_000)
