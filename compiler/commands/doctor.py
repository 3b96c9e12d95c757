"""`qcompile doctor`: every tool, its version, where it is, and what installs a missing one."""

from __future__ import annotations

import argparse

from qcompile.compiler.doctor import diagnose, print_findings


def run(arguments: argparse.Namespace) -> int:
    """Print the findings; 1 where compile or sim would not work."""
    return print_findings(diagnose(), json=arguments.json)
