"""Values of command line options, as both command lines take them."""

from __future__ import annotations

import argparse


def positive(text: str) -> int:
    """A whole number of 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of 1 or more")
    return int(text)


def parse_numbers(text: str) -> tuple[float, ...]:
    """`127.5` or `0.48,0.45,0.4` of --mean and --std."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"'{text}' is not a number or a list such as 0.48,0.45,0.4"
        ) from None
