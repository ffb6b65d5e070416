"""ONNX Runtime on any of its execution providers, running what lucid exports, or a file made from it by a toolchain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx

import lucid
from lucid.files import open_regular
from lucid.graph import trace, trace_gradients
from lucid.onnx import to_onnx
from lucid.onnx._need import need
from oracle.case.case import Case
from oracle.errors import UsageError
from oracle.graph.model import Mode
from oracle.operations import is_loss
from oracle.precision.profile import profile_of, take_profile
from oracle.subjects import Brought, Subject, choose, positive, take
from oracle.subjects.layerwise import Layerwise
from oracle.subjects.lucid_engine import LucidSubject, make_model
from oracle.subjects.onnx_names import ForeignGraph, own_weights, read_parameters
from oracle.trace import KINDS, Kind, Recorder

need("onnxruntime", "the subject onnxruntime")  # without its telemetry, which can be switched off before alone
import onnxruntime  # noqa: E402

_LEVELS = {
    "optimized": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "unoptimized": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
}
_PRECISIONS = ("float32", "tf32", "bfloat16", "float16")
_CPU = "CPUExecutionProvider"
_ERRORS_ONLY = 3
_INPUTS = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
}


class OnnxRuntimeSubject(Subject):
    """The exported model, forward in eval mode; or, with ``gradients``, a train step of it.

    Options:

    - ``optimized`` (default), ``extended``, ``basic`` or ``unoptimized``: the level of graph optimisation. Every layer
      is made an output, so what is left to fuse is less than without; see ``fused``;
    - ``fused``: the network's output alone is asked for, so that the runtime may fuse what it likes; the layers are
      then not observed;
    - ``gradients``: what ``lucid.onnx.export_gradients`` writes, standard operators that make the loss, gradients and
      running statistics. Train mode, and no local view;
    - ``provider=NAME``, such as ``provider=CUDA`` or ``provider=CUDAExecutionProvider``, which must be there: the
      runtime would quietly take the CPU instead;
    - ``file=PATH.onnx``: a model that was exported (``lucid-oracle vectors`` writes it, ``lucid-export`` too) and then
      changed, or by ``torch.onnx`` of a network of the same layout. Tensors are found by name (torch.onnx's and
      torchvision's are known, `oracle.case.names`); what was fused away or renamed is not observed. Its parameters are
      compared with the case's first: a file with other weights is no subject of the case;
    - ``float32`` (default), ``tf32``, ``bfloat16`` or ``float16``: what the provider, or the file, computes in, and
      options as `oracle.precision.profile` has them (``tf32`` declares ``truncated`` unless it is told ``rounded``);
    - ``threads=N``.
    """

    modes: frozenset[Mode] = frozenset({"eval"})
    kinds: tuple[Kind, ...] = ("activation",)

    def __init__(self, *options: str) -> None:
        named, plain = take("onnxruntime", _whole_path(options), ("provider", "file", "threads"))
        declared, others = take_profile("onnxruntime", plain, {"tf32": "truncated"})
        if declared.base not in _PRECISIONS:
            raise UsageError(f"subject: onnxruntime takes one of {', '.join(_PRECISIONS)}; got {declared.base!r}")
        chosen = choose(
            "onnxruntime",
            others,
            {"graph": tuple(_LEVELS), "precision": _PRECISIONS, "outputs": ("layers", "fused", "gradients")},
        )
        self.label = ":".join(("onnxruntime", *options))
        self.precision = str(declared)
        self._level = _LEVELS[chosen["graph"]]
        self._fused = chosen["outputs"] == "fused"
        self._provider = _provider(named.get("provider", _CPU))
        self._threads = positive("onnxruntime", "threads", named["threads"]) if "threads" in named else 0
        self._file = Path(named["file"]) if "file" in named else None
        self.partial = self._fused or self._file is not None
        self._gradients = chosen["outputs"] == "gradients"
        self.layered = not self.partial and not self._gradients
        if self._gradients and self._file is not None:
            raise UsageError("subject: onnxruntime: gradients are what lucid exports, of no file")
        if self._gradients:
            self.modes, self.kinds = frozenset({"train"}), KINDS
        if self._file is not None:
            self.label = ":".join(("onnxruntime", *plain, f"file={self._file.name}"))
            _load(self._file)  # an unreadable file is said now

    @property
    def file(self) -> Path | None:
        """The file that it runs instead of what lucid exports."""
        return self._file

    def settings(self) -> dict[str, Any]:
        """What a session is made with, for a script that does without the oracle."""
        providers = [self._provider] + ([] if self._provider == _CPU else [_CPU])
        return {"level": self._level.name, "threads": self._threads, "providers": providers}

    def run(self, case: Case, recorder: Recorder) -> None:
        """Export or read, load and run the model."""
        if self._gradients:
            self._train(case, recorder)
            return
        session, names = self._prepare(case)
        [given] = session.get_inputs()
        image = case.input.astype(_INPUTS.get(given.type, np.float32))
        arrays = session.run(list(names), {given.name: image})
        for name, array in zip(names.values(), arrays, strict=True):
            recorder.record("activation", name, array)

    def _train(self, case: Case, recorder: Recorder) -> None:
        """A train step: outputs, loss, statistics, and the gradients of outputs and parameters."""
        model = make_model(case)
        image, labels = lucid.tensor(case.input), lucid.tensor(case.labels)
        made = {node.output for node in trace(model, image).nodes}
        layers = [node.name for node in case.graph.nodes if node.name in made]
        parameters = [name for name, _ in model.named_parameters()]
        graph = trace_gradients(model, image, labels, LucidSubject.loss_of(model), of=[*layers, *parameters])
        proto = to_onnx(graph, also=[name for name in layers if name not in graph.outputs])
        session = self.load(proto.SerializeToString())
        names = [output.name for output in session.get_outputs()]
        feeds = {graph.inputs[0]: case.input, graph.inputs[1]: case.labels}
        found = dict(zip(names, session.run(None, feeds), strict=True))
        owed: list[tuple[Kind, str, str]] = [
            *(("activation", name, name) for name in layers),
            ("loss", "loss", "loss"),
            *(("statistic", name.removesuffix(".next"), name) for name in names if name.endswith(".next")),
            *(("activation_gradient", name, f"{name}.grad") for name in reversed(layers)),
            *(("parameter_gradient", name, f"{name}.grad") for name in parameters),
        ]
        for kind, name, output in owed:
            if output in found:
                recorder.record(kind, name, found[output])

    def layerwise(self, case: Case) -> Layerwise | None:
        """The model taken apart; ``None`` for a changed file, whose layers may be fused, and where layers may be."""
        from oracle.subjects.onnx_layers import OnnxLayers

        return OnnxLayers(self, case) if self.layered else None

    def brings(self, case: Case) -> Brought | None:
        """The parameters in the file; ``None`` where lucid exports the case's."""
        if self._file is None:
            return None
        proto = _load(self._file)
        _, _, notes = _changed(proto, case, self._file)
        reading = read_parameters(proto, case.model, case.rules)
        metadata = {each.key: each.value for each in proto.metadata_props}
        origin = f"lucid-export: {metadata['lucid.weights']}" if "lucid.weights" in metadata else ""
        return Brought(own_weights(proto, reading.names), notes, origin=origin, takes=_takes(proto))

    def session(self, case: Case) -> onnxruntime.InferenceSession:
        """The model of ``case``, for any batch, with every layer as an output."""
        return self._prepare(case)[0]

    def _prepare(self, case: Case) -> tuple[onnxruntime.InferenceSession, dict[str, str]]:
        """The session, and for each of its outputs, in order, the layer that it is."""
        proto, names = self.export(case) if self._file is None else _changed(_load(self._file), case, self._file)[:2]
        if self._fused:
            network = proto.graph.output[0].name
            names = {network: names[network]}
        del proto.graph.output[:]
        proto.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
        return self.load(proto.SerializeToString()), names

    def export(self, case: Case) -> tuple[onnx.ModelProto, dict[str, str]]:
        """What lucid exports of ``case``, for any batch where its operations are modules, and the layers among its
        tensors."""
        model = make_model(case).eval()
        graph = trace(model, lucid.tensor(case.input), dynamic_batch=not case.model.functional)
        renamed = case.model.renamed(graph)
        names = {renamed.get(node.output, node.output): node.output for node in graph.nodes}
        found = {names[node.name]: node.name for node in case.graph.nodes if node.name in names}
        return to_onnx(graph, also=list(found)), found

    def load(self, model: bytes) -> onnxruntime.InferenceSession:
        """A session of a serialized model with the subject's options.

        Raises:
            UsageError: the provider could not be started, or the runtime refuses the model.
        """
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = self._level
        options.log_severity_level = _ERRORS_ONLY
        options.intra_op_num_threads = self._threads
        settings: dict[str, Any] = {}
        if self._provider == "CUDAExecutionProvider":
            settings = {"use_tf32": "1" if profile_of(self.precision).base == "tf32" else "0"}
        providers = [(self._provider, settings)] + ([] if self._provider == _CPU else [(_CPU, {})])
        try:
            session = onnxruntime.InferenceSession(model, options, providers=providers)
        except Exception as error:  # the runtime's exceptions share no narrower base
            if self._file is None:
                raise
            raise UsageError(f"subject: {self.label}: ONNX Runtime refuses the model: {error}") from error
        if self._provider not in session.get_providers():
            raise UsageError(f"subject: {self.label}: ONNX Runtime could not start {self._provider}")
        return session


def _whole_path(options: tuple[str, ...]) -> tuple[str, ...]:
    """The options, a ``file=`` put together again whose path holds colons: it takes all up to ``.onnx``.

    Example:
        >>> _whole_path(("basic", "file=a", "b.onnx", "threads=2"))
        ('basic', 'file=a:b.onnx', 'threads=2')
    """
    whole: list[str] = []
    for option in options:
        if whole and whole[-1].startswith("file=") and not whole[-1].endswith(".onnx"):
            whole[-1] += f":{option}"
        else:
            whole.append(option)
    return tuple(whole)


def _provider(name: str) -> str:
    known = {provider.lower(): provider for provider in onnxruntime.get_available_providers()}
    found = known.get(name.lower()) or known.get(f"{name.lower()}executionprovider")
    if found is None:
        raise UsageError(f"subject: provider={name}: this ONNX Runtime has {', '.join(known.values())}")
    return found


def _load(path: Path) -> onnx.ModelProto:
    try:
        open_regular(path).close()  # a FIFO would be waited for
        return onnx.load(path)
    except OSError as error:
        raise UsageError(f"subject: cannot read {path}: {error.strerror or error}") from None
    except Exception as error:  # protobuf's exceptions differ by its version
        raise UsageError(f"subject: {path} is no ONNX model: {error}") from None


def _takes(proto: onnx.ModelProto) -> tuple[int, ...] | None:
    """The shape of a model's input, 0 for a side that is open; ``None`` where the file does not say."""
    weights = {initializer.name for initializer in proto.graph.initializer}
    given = [each.type.tensor_type for each in proto.graph.input if each.name not in weights]
    if len(given) != 1 or not given[0].HasField("shape"):
        return None
    return tuple(side.dim_value if side.HasField("dim_value") else 0 for side in given[0].shape.dim)


def _changed(proto: onnx.ModelProto, case: Case, path: Path) -> tuple[onnx.ModelProto, dict[str, str], tuple[str, ...]]:
    """A changed model, the layers among its tensors, and what was assumed to find them.

    Layers are the tensors of a layer's name, and the network's output; where there are no others, what `ForeignGraph`
    finds.

    Folding a normalisation into the convolution before it leaves, in some toolchains, the result under the
    convolution's name. No convolution of these networks has a bias; where the one of that name has grown one, what it
    returns is the normalisation's output, and the convolution's own is not observed.

    Raises:
        UsageError: no tensor of it is a layer of the case.
    """
    nodes = [node for node in case.graph.nodes if not is_loss(node)]
    makers = {output: node for node in proto.graph.node for output in node.output if output}
    names: dict[str, str] = {}
    for node in nodes:
        before = node.inputs[0] if node.statistics else ""
        if node.name in makers and not _folded(makers[node.name], case, node.name):
            names[node.name] = node.name
        elif before in makers and _folded(makers[before], case, before):
            names[before] = node.name
    notes: tuple[str, ...] = ()
    if len(names) <= 1 or case.rules.rules:  # an output that happens to have a layer's name proves nothing
        foreign = ForeignGraph(proto, case.model, case.rules)
        found = foreign.names()
        names = found | {tensor: name for tensor, name in names.items() if name not in found.values()}
        notes = foreign.assumed
    [*outputs] = (output.name for output in proto.graph.output)
    if len(outputs) == 1 and case.graph.output not in names.values():
        names = {**names, outputs[0]: case.graph.output}
    if not names:
        raise UsageError(f"subject: {path} has no tensor that is named as a layer of {case.name}")
    return proto, names, notes


def _folded(node: onnx.NodeProto, case: Case, name: str) -> bool:
    """Whether ``node`` is the layer ``name``, a convolution without bias, with a bias."""
    takes_bias = len(node.input) > 2 and bool(node.input[2])
    convolution = case.state.get(f"{name}.weight", np.empty(0)).ndim == 4
    return convolution and takes_bias and f"{name}.bias" not in case.state
