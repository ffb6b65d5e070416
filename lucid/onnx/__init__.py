"""ONNX both ways: ``load`` reads a model, ``export`` writes one and ``export_gradients`` a train step.

``to_onnx`` makes a model in memory; ``verify`` and ``verify_gradients`` run one; ``imports`` enters an operator of your
own, for models that are read.

The packages onnx and onnxruntime are imported when one of these is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lucid.onnx._need import need

if TYPE_CHECKING:
    from lucid.onnx._convert import DEFAULT_OPSET, NEWEST_OPSET, OLDEST_OPSET, to_onnx
    from lucid.onnx._export import check, export, export_gradients
    from lucid.onnx._importer import Call, imports
    from lucid.onnx._load import UnsupportedError, load
    from lucid.onnx._module import OnnxModule
    from lucid.onnx._precision import halve
    from lucid.onnx._quantize import quantize
    from lucid.onnx._simplify import simplify
    from lucid.onnx._verify import GradientVerification, Verification, verify, verify_gradients
    from lucid.onnx._write import write_model

__all__ = [
    "DEFAULT_OPSET",
    "NEWEST_OPSET",
    "OLDEST_OPSET",
    "Call",
    "GradientVerification",
    "OnnxModule",
    "UnsupportedError",
    "Verification",
    "check",
    "export",
    "export_gradients",
    "halve",
    "imports",
    "load",
    "quantize",
    "simplify",
    "to_onnx",
    "verify",
    "verify_gradients",
    "write_model",
]

_HOMES = {
    "Call": "_importer",
    "DEFAULT_OPSET": "_convert",
    "GradientVerification": "_verify",
    "NEWEST_OPSET": "_convert",
    "OLDEST_OPSET": "_convert",
    "OnnxModule": "_module",
    "UnsupportedError": "_load",
    "Verification": "_verify",
    "check": "_export",
    "export": "_export",
    "export_gradients": "_export",
    "halve": "_precision",
    "imports": "_importer",
    "load": "_load",
    "quantize": "_quantize",
    "simplify": "_simplify",
    "to_onnx": "_convert",
    "verify": "_verify",
    "verify_gradients": "_verify",
    "write_model": "_write",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    need("onnx", "lucid.onnx")
    return getattr(need(f"lucid.onnx.{_HOMES[name]}", "lucid.onnx"), name)
