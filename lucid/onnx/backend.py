"""ONNX's backend interface: what ``onnx.backend.test`` and other tools run models by.

Source: https://onnx.ai/onnx/api/backend.html
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper
from onnx.backend.base import Backend, BackendRep

from lucid.backends import available_backends
from lucid.core.grad_mode import no_grad
from lucid.core.tensor import Tensor
from lucid.onnx._load import UnsupportedError, load
from lucid.onnx._module import OnnxModule
from lucid.onnx._types import TEXT

__all__ = ["LucidBackend", "LucidRep", "is_compatible", "prepare", "run_model", "run_node", "supports_device"]

_DEVICES = {"CPU": "cpu", "CUDA": "gpu"}
"""lucid's names of ONNX's devices."""


class LucidRep(BackendRep):
    """A model that is ready to run."""

    def __init__(self, module: OnnxModule) -> None:
        self.module = module

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """The outputs as arrays of the types that the model declares; inputs in its order, or one array, or by name."""
        with no_grad():
            if isinstance(inputs, dict):
                outputs = self.module(**inputs)
            else:
                outputs = self.module(*(inputs if isinstance(inputs, list | tuple) else [inputs]))
        returned = outputs if isinstance(outputs, tuple) else (outputs,)
        dtypes = (self.module.dtype_of(name) for name in self.module.output_names)
        return tuple(_plain(value, dtype) for value, dtype in zip(returned, dtypes, strict=True))


class LucidBackend(Backend):
    """lucid as a backend of ONNX.

    Example:
        >>> import numpy as np
        >>> from onnx import helper
        >>> node = helper.make_node("Add", ["a", "b"], ["c"])
        >>> LucidBackend.run_node(node, [np.float32([1, 2]), np.float32([3, 4])])
        (array([4., 6.], dtype=float32),)
    """

    @classmethod
    def is_compatible(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> bool:
        """Whether lucid computes all of the model's operators."""
        try:
            load(model)
        except UnsupportedError:
            return False
        return cls.supports_device(device)

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> LucidRep:
        """The model, ready to run on a device: ``CPU`` or ``CUDA``."""
        module = load(model)
        return LucidRep(module if _DEVICES[device.split(":")[0]] == "cpu" else module.to("gpu"))

    @classmethod
    def run_node(
        cls, node: onnx.NodeProto, inputs: Any, device: str = "CPU", outputs_info: Any = None, **kwargs: Any
    ) -> Any:
        """The outputs of one node for arrays."""
        arrays = [np.asarray(each) for each in inputs]
        names = [name for name in node.input if name]
        infos = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for name, array in zip(names, arrays, strict=True)
        ]
        outputs = [onnx.ValueInfoProto(name=name) for name in node.output if name]
        return cls.run_model(helper.make_model(helper.make_graph([node], "node", infos, outputs)), arrays, device)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Whether it is here: ``CPU``, or ``CUDA`` with a GPU."""
        return bool(available_backends(_DEVICES.get(device.split(":")[0], "none")))


def _plain(value: Any, dtype: np.dtype[Any] | None) -> Any:
    if isinstance(value, list):
        return [_plain(each, dtype) for each in value]
    array = value.detach().cpu().numpy() if isinstance(value, Tensor) else value
    return array if dtype is None or array is None or array.dtype == dtype or dtype == TEXT else array.astype(dtype)


is_compatible = LucidBackend.is_compatible
prepare = LucidBackend.prepare
run_model = LucidBackend.run_model
run_node = LucidBackend.run_node
supports_device = LucidBackend.supports_device
