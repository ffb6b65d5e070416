"""ONNX Runtime on the CPU, running what lucid exports, with every layer as an output."""

from __future__ import annotations

import onnxruntime

import lucid
from oracle.case import Case, Mode
from oracle.subjects import Subject, choose
from oracle.subjects.lucid_engine import layers, make_model
from oracle.trace import Kind, Recorder

_OPTIMIZATION = {
    "optimized": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "unoptimized": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
}
_ERRORS_ONLY = 3


class OnnxRuntimeSubject(Subject):
    """The exported model, which stays in memory. Forward in eval mode only: that is what an ONNX model holds.

    Options: ``optimized`` (default) or ``unoptimized``.
    """

    modes: frozenset[Mode] = frozenset({"eval"})
    kinds: tuple[Kind, ...] = ("activation",)

    def __init__(self, *options: str) -> None:
        chosen = choose("onnxruntime", options, {"graph": ("optimized", "unoptimized")})
        self._level = _OPTIMIZATION[chosen["graph"]]
        self.label = ":".join(("onnxruntime", *options))

    def run(self, case: Case, recorder: Recorder) -> None:
        """Export, load and run the model."""
        session = self.session(case)
        outputs = [output.name for output in session.get_outputs()]
        [given] = session.get_inputs()
        for name, array in zip(outputs, session.run(outputs, {given.name: case.input}), strict=True):
            recorder.record("activation", name, array)

    def session(self, case: Case) -> onnxruntime.InferenceSession:
        """The model of ``case``, for any batch, with every layer as an output."""
        from lucid.graph import trace
        from lucid.onnx import to_onnx

        model = make_model(case).eval()
        names = [name for name, _ in layers(model)]
        graph = trace(model, lucid.tensor(case.input), dynamic_batch=True)
        made = {node.output for node in graph.nodes}
        proto = to_onnx(graph, also=[name for name in names if name in made])
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = self._level
        options.log_severity_level = _ERRORS_ONLY
        return onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
