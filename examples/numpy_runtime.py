"""A subject of your own, whole: a runtime in 40 lines of NumPy, judged layer by layer.

    lucid-oracle check resnet_18 --mode eval --subject examples/numpy_runtime.py:NumpyRuntime

Yours takes the weights (`case.state`, named as PyTorch names them) and the input (`case.input`), runs its own kernels,
and hands over what each layer returned. A layer that it does not hand over is missing, which is a disagreement; one
that it hands over under a wrong name is unexpected, which is another. A runtime that fuses layers away says
`partial = True`: what it does not hand over is then reported as not observed. One that computes in another precision
says so (`precision = "bfloat16"`), and is given that precision's budget.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from oracle import Case, Subject


class NumpyRuntime(Subject):
    label = "numpy"
    modes = frozenset({"eval"})  # it has no backward
    kinds = ("activation",)

    def run(self, case: Case, recorder) -> None:
        def done(name: str, x: np.ndarray) -> np.ndarray:
            recorder.record("activation", name, x)
            return x

        def conv(name: str, x: np.ndarray, stride: int = 1) -> np.ndarray:
            weight = case.state[f"{name}.weight"]
            k = weight.shape[-1]
            x = np.pad(x, ((0, 0), (0, 0), (k // 2,) * 2, (k // 2,) * 2))
            windows = sliding_window_view(x, (k, k), axis=(2, 3))[:, :, ::stride, ::stride]
            return done(name, np.tensordot(windows, weight, axes=((1, 4, 5), (1, 2, 3))).transpose(0, 3, 1, 2))

        def norm(name: str, x: np.ndarray) -> np.ndarray:
            parts = ("weight", "bias", "running_mean", "running_var")
            weight, bias, mean, var = (case.state[f"{name}.{part}"][:, None, None] for part in parts)
            return done(name, (x - mean) / np.sqrt(var + np.float32(1e-5)) * weight + bias)

        def relu(name: str, x: np.ndarray) -> np.ndarray:
            return done(name, np.maximum(x, 0))

        def block(name: str, x: np.ndarray, stride: int) -> np.ndarray:
            y = relu(f"{name}.relu1", norm(f"{name}.bn1", conv(f"{name}.conv1", x, stride)))
            y = norm(f"{name}.bn2", conv(f"{name}.conv2", y))
            if f"{name}.downsample.0.weight" in case.state:
                x = norm(f"{name}.downsample.1", conv(f"{name}.downsample.0", x, stride))
            return done(name, np.maximum(y + x, 0))

        x = relu("stem.2", norm("stem.1", conv("stem.0", case.input, stride=2)))
        x = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))  # after a ReLU, zero is as good as minus infinity
        x = done("maxpool", sliding_window_view(x, (3, 3), axis=(2, 3))[:, :, ::2, ::2].max(axis=(4, 5)))
        for stage, count in enumerate(case.architecture.layers):  # basic blocks: resnet_18 and resnet_34
            for place in range(count):
                x = block(f"layer{stage + 1}.{place}", x, stride=2 if stage > 0 and place == 0 else 1)
        x = done("avgpool", x.mean(axis=(2, 3), keepdims=True))
        x = done("flatten", x.reshape(len(x), -1))
        done("fc", x @ case.state["fc.weight"].T + case.state["fc.bias"])
