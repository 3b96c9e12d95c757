"""Constants for the hardware make the same codes as golden's, for every possible accumulator."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from qcompile.compiler import ir
from qcompile.compiler.errors import UnsupportedError
from qcompile.compiler.golden.numerics import requantize
from qcompile.compiler.passes.channels import FLOAT_EXACT, HALF_SHIFT, hardware_channels


def requant_of(mantissa: int, shift: int, *, zero_point: int = 0) -> ir.Requant:
    return ir.Requant(
        mode="exact",
        mantissa=np.array([mantissa]),
        shift=np.array([shift]),
        zero_point=zero_point,
    )


def channel(weights: list[int], bias: int, requant: ir.Requant) -> tuple[ir.Requant, np.ndarray]:
    """The hardware's requant, and rows of (golden's, the hardware's) accumulator for all sums."""
    op = ir.Op(inputs=("x",), outputs=("y",))
    weight = np.array(weights, np.int16).reshape(1, -1, 1, 1)
    found = hardware_channels(op, weight, np.array([bias]), (-128, 127), requant)
    reach = 128 * int(np.abs(weight.astype(np.int64)).sum())
    sums = np.arange(-reach, reach + 1) if found.weight.any() else np.zeros(1, np.int64)
    hardware = ir.Requant(
        mode="exact", mantissa=found.mantissa, shift=found.shift, zero_point=requant.zero_point
    )
    return hardware, np.stack([sums + bias, sums + int(found.bias[0])])


@settings(max_examples=150, deadline=None)
@given(
    weights=st.lists(st.integers(-127, 127), min_size=1, max_size=12),
    bias=st.integers(-(1 << 26), 1 << 26),
    mantissa=st.integers(1 << 23, (1 << 24) - 1),
    shift=st.integers(38, 56),
    zero_point=st.integers(-128, 127),
)
def test_accumulators_that_float32_rounds_keep_their_codes(
    weights: list[int], bias: int, mantissa: int, shift: int, zero_point: int
) -> None:
    requant = requant_of(mantissa, shift, zero_point=zero_point)
    try:
        hardware, sums = channel(weights, bias, requant)
    except UnsupportedError:
        assume(False)
    np.testing.assert_array_equal(
        requantize(sums[1][:, np.newaxis], hardware), requantize(sums[0][:, np.newaxis], requant)
    )
    saturates = hardware.mantissa[0] * 2.0 ** -float(hardware.shift[0]) * FLOAT_EXACT >= 512
    assert np.abs(sums[1]).max() < FLOAT_EXACT or saturates


def test_a_channel_of_one_step_gets_a_scale_in_reach() -> None:
    """As in MobileNetV1 for visual wake words: two codes, sums near 26 million."""
    requant = requant_of(12227057, 44, zero_point=-128)
    hardware, sums = channel([127] * 5, 26571660, requant)
    assert np.abs(sums[1]).max() < FLOAT_EXACT < sums[0].max()
    assert set(requantize(sums[0][:, np.newaxis], requant)[:, 0]) == {-110, -109}
    assert HALF_SHIFT <= hardware.shift[0] <= 55


def test_a_channel_of_many_steps_beyond_float32_is_refused() -> None:
    with pytest.raises(
        UnsupportedError, match=r"^'y': sums of channel 0 may reach 49035216, beyond"
    ):
        channel([127] * 2000, 1 << 24, requant_of(1 << 23, 43))
