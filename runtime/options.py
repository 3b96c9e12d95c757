"""Values of command line options, as both command lines take them."""

from __future__ import annotations

import argparse

PORT_HELP = "a serial port such as /dev/ttyUSB1, or registers: uio:/dev/uio0, mem:0x43C00000"


def positive(text: str) -> int:
    """A whole number of 1 or more, of at most 12 digits."""
    if not (text.isascii() and text.isdecimal() and len(text) <= 12 and int(text) >= 1):
        raise argparse.ArgumentTypeError(f"'{shown(text)}' is not a whole number of 1 or more")
    return int(text)


def shown(text: str) -> str:
    """What a message repeats of a word of the user's."""
    return text if len(text) <= 40 else f"{text[:37]}..."


def parse_numbers(text: str) -> tuple[float, ...]:
    """`127.5` or `0.48,0.45,0.4` of --mean and --std."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"'{shown(text)}' is not a number or a list such as 0.48,0.45,0.4"
        ) from None
