"""A build directory for the simulated board of sim_tests/hw/small_board.py."""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from qcompile.runtime.layouts import IMAGE_HEADER_BYTES
from sim_tests.hw import small_board
from sim_tests.hw.small_core import LAYER_WORDS

WORDS = np.arange(5, 5 + 4 * LAYER_WORDS, dtype=np.uint16)
"""Four layers of SmallCore; it copies a program word into each memory word."""
SHA256 = hashlib.sha256(b"small").hexdigest()


def image(*, sha256: str = SHA256, identity: int = small_board.CONFIG.id) -> bytes:
    """A whole flash image."""
    program = small_board.program(WORDS)
    header = struct.pack(
        "<4sHHIII12x32s",
        *(b"QCIM", 1, 0, identity, len(program), zlib.crc32(program), bytes.fromhex(sha256)),
    )
    return header.ljust(IMAGE_HEADER_BYTES, b"\0") + program


def manifest() -> dict[str, Any]:
    """Input float32 [1, 3, 2, 2] quantized on the host; output 64 channels of one pixel."""
    quantization = {"scale": 0.5, "zero_point": -3}
    layers = [
        {
            "name": f"layer{index}",
            "op": "Conv",
            "address": small_board.COPY_ADDRESS + index * LAYER_WORDS,
            "shape": [4, 8, 8],
            "words": LAYER_WORDS,
            "done": index + 1,
        }
        for index in range(4)
    ]
    return {
        "qcompile": "0.1.0",
        "model": {"name": "small", "file": "model.onnx", "sha256": SHA256},
        "target": {
            "family": "ice40",
            "device": "iCE40UP5K",
            "board": "icebreaker",
            "loader": "ice40_generic",
            "cable": None,
        },
        "configuration": {"id": small_board.CONFIG.id},
        "inputs": [
            {"name": "x", "shape": [1, 3, 2, 2], "dtype": "float32", "quantization": quantization}
        ],
        "outputs": [{"name": "y", "shape": [1, 64], "dtype": "int8", "quantization": None}],
        "prologue": [
            {
                "op": "QuantizeLinear",
                "inputs": ["x"],
                "outputs": ["codes"],
                "attributes": {**quantization, "dtype": "int8"},
            }
        ],
        "epilogue": [
            {
                "op": "Reshape",
                "inputs": ["sums"],
                "outputs": ["y"],
                "attributes": {"shape": [1, 64]},
            }
        ],
        "accelerator": {
            "inputs": [{"value": "codes", "address": 40, "shape": [3, 2, 2], "words": 4}],
            "outputs": [
                {
                    "value": "sums",
                    "address": small_board.COPY_ADDRESS,
                    "shape": [64, 1, 1],
                    "words": 16,
                }
            ],
            "layers": layers,
        },
        "program": {"offset": 0x100100, "bytes": len(WORDS) * 2 + 4},
        "clock_hz": small_board.CLOCK_HZ,
    }


def output_codes() -> Any:
    """int8 [64, 1, 1] that SmallCore leaves at the output's place."""
    return WORDS[:16].astype("<u4").view(np.int8).reshape(64, 1, 1)


def layer_codes(words: Any) -> Any:
    """int8 [4, 8, 8] of a layer's memory words, a pixel each."""
    return words.astype("<u4").view(np.int8).reshape(8, 8, 4).transpose(2, 0, 1)


def write(folder: Path, **changes: Any) -> Path:
    """The build directory, with golden vectors of two inputs; `changes` replace parts."""
    folder.mkdir(exist_ok=True)
    golden = {
        "input/codes": np.arange(24, dtype=np.int8).reshape(2, 3, 2, 2),
        "output/sums": np.stack([output_codes()] * 2),
    }
    for index in range(4):
        words = WORDS[index * LAYER_WORDS : (index + 1) * LAYER_WORDS]
        golden[f"layer/{index}"] = layer_codes(words)
    np.savez(folder / "golden.npz", **(golden | changes.get("golden", {})))
    (folder / "flash.bin").write_bytes(changes.get("image", image()))
    (folder / "top.bin").write_bytes(b"bitstream")
    parts = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if path.name != "manifest.json"
    }
    write_manifest(folder, {**manifest(), "parts": parts})
    return folder


def write_manifest(folder: Path, content: dict[str, Any]) -> None:
    """A manifest with the digest of its content, as docs/architecture.md section 8 defines it."""
    content.pop("digest", None)
    text = json.dumps(content, sort_keys=True).replace(", ", ",").replace(": ", ":")
    digest = hashlib.sha256(text.encode()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps({**content, "digest": digest}))
