"""ONNX both ways: ``load`` reads a model, ``export`` writes one, ``to_onnx`` makes one in memory, ``verify`` runs it.

The packages onnx and onnxruntime are imported when one of these is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lucid.onnx._need import need

if TYPE_CHECKING:
    from lucid.onnx._convert import DEFAULT_OPSET, NEWEST_OPSET, OLDEST_OPSET, to_onnx
    from lucid.onnx._export import check, export
    from lucid.onnx._load import UnsupportedError, load
    from lucid.onnx._module import OnnxModule
    from lucid.onnx._verify import Verification, verify
    from lucid.onnx._write import write_model

__all__ = [
    "DEFAULT_OPSET",
    "NEWEST_OPSET",
    "OLDEST_OPSET",
    "OnnxModule",
    "UnsupportedError",
    "Verification",
    "check",
    "export",
    "load",
    "to_onnx",
    "verify",
    "write_model",
]

_HOMES = {
    "DEFAULT_OPSET": "_convert",
    "NEWEST_OPSET": "_convert",
    "OLDEST_OPSET": "_convert",
    "OnnxModule": "_module",
    "UnsupportedError": "_load",
    "Verification": "_verify",
    "check": "_export",
    "export": "_export",
    "load": "_load",
    "to_onnx": "_convert",
    "verify": "_verify",
    "write_model": "_write",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    need("onnx", "lucid.onnx")
    return getattr(need(f"lucid.onnx.{_HOMES[name]}", "lucid.onnx"), name)
