"""What a line of the array takes on 7-series stays within bounds, and so does its logic's depth."""

from __future__ import annotations

import pytest

from qcompile.hw.lines.config import LinesConfig
from sim_tests.hw import xc7
from sim_tests.hw.lines.read_line import ReadLine


def test_a_line_in_dsps_takes_one_a_pair_and_little_logic() -> None:
    found = xc7.synthesize(ReadLine(LinesConfig(), pairs_in_dsp=32))
    print(found)
    assert found.multipliers == 32
    assert found.luts <= 1700
    assert found.flip_flops <= 4000
    assert found.depth <= 7


@pytest.mark.full
def test_a_line_in_logic_takes_no_dsp() -> None:
    found = xc7.synthesize(ReadLine(LinesConfig(dsp="none"), pairs_in_dsp=32))
    print(found)
    assert found.multipliers == 0
    assert found.luts <= 5200
    assert found.flip_flops <= 8000
    assert found.depth <= 7


def test_no_path_of_a_whole_array_is_longer_than_six_luts() -> None:
    found = xc7.synthesize_array(xc7.arrays()["array-narrow"])
    print(found.luts, *found.paths, sep="\n")
    assert found.paths[0].levels <= 6
