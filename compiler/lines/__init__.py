"""Compiling for the array of lines (docs/lines.md): its loop nests, its costs, its size."""
