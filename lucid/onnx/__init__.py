"""Models for other runtimes: ``export`` writes an ONNX file, ``to_onnx`` makes a model in memory, ``verify`` runs one.

The packages onnx and onnxruntime are imported when one of these is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lucid.onnx._need import need

if TYPE_CHECKING:
    from lucid.onnx._convert import DEFAULT_OPSET, NEWEST_OPSET, OLDEST_OPSET, to_onnx
    from lucid.onnx._export import check, export
    from lucid.onnx._verify import Verification, verify
    from lucid.onnx._write import write_model

__all__ = [
    "DEFAULT_OPSET",
    "NEWEST_OPSET",
    "OLDEST_OPSET",
    "Verification",
    "check",
    "export",
    "to_onnx",
    "verify",
    "write_model",
]

_HOMES = {
    "DEFAULT_OPSET": "_convert",
    "NEWEST_OPSET": "_convert",
    "OLDEST_OPSET": "_convert",
    "Verification": "_verify",
    "check": "_export",
    "export": "_export",
    "to_onnx": "_convert",
    "verify": "_verify",
    "write_model": "_write",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    need("onnx", "lucid.onnx")
    return getattr(need(f"lucid.onnx.{_HOMES[name]}", "lucid.onnx"), name)
