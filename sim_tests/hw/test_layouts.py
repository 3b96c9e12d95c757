"""Byte orders by hand-worked examples, and the compiler's and the runtime's tables alike."""

from __future__ import annotations

import numpy as np
import pytest

from qcompile.hw import layouts
from qcompile.hw.lines.config import LinesConfig
from qcompile.runtime import layouts as runtime_layouts


def test_byte_i_of_a_word_is_channel_i_of_its_group() -> None:
    codes = np.arange(1, 13, dtype=np.int8).reshape(6, 1, 2)  # channel c: 2c + 1, 2c + 2
    words = layouts.pack_tensor(codes, fill=-1)
    assert [f"{word:08x}" for word in words] == ["07050301", "08060402", "ffff0b09", "ffff0c0a"]
    assert layouts.tensor_words(6, 1, 2) == len(words)


@pytest.mark.parametrize("shape", [(1, 1, 1), (4, 3, 5), (5, 2, 2), (9, 1, 7)])
def test_unpacking_undoes_packing_in_both_tables(
    shape: tuple[int, int, int], rng: np.random.Generator
) -> None:
    codes = rng.integers(-128, 128, shape).astype(np.int8)
    words = layouts.pack_tensor(codes)
    np.testing.assert_array_equal(words, runtime_layouts.pack_tensor(codes))
    np.testing.assert_array_equal(layouts.unpack_tensor(words, *shape), codes)
    np.testing.assert_array_equal(runtime_layouts.unpack_tensor(words, *shape), codes)
    assert len(words) == layouts.tensor_words(*shape)


def test_words_of_a_turned_tensor_stand_where_the_array_places_them() -> None:
    """Neighbours change places in every second row of the banks; with eight banks the even ones of
    four words then stand before the odd ones."""
    for lines, turned_bit, expected in (
        (3, 2, [1, 0, 3, 2, 4, 5, 6, 7, 9, 8, 11, 10]),
        (8, 3, [0, 2, 1, 3, 6, 4, 7, 5, 10, 8, 11, 9]),
    ):
        order = runtime_layouts.word_order(1 << 15 | 4, 12, turned_bit=turned_bit).tolist()
        assert order == expected
        config = LinesConfig(lines=lines)
        assert order == [config.place(4 + word) - 4 for word in range(12)]
