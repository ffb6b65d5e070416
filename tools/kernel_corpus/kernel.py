"""What a kernel is, and how it is made of a body (the algorithm, on float32 arrays) and its arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import ml_dtypes
import numpy as np
import torch

from kernel_corpus.arithmetic import Arithmetic, base_of

Body = Callable[..., Any]


@dataclass(frozen=True)
class Kernel:
    """One kernel to be checked.

    Args:
        op: the operation that it should be.
        name: what it is, in words.
        precision: the profile that it declares.
        fn: takes the operation's inputs, and its attributes by name.
        attributes: of the operation, as the check is given them.
        backward: takes the gradient of the output, the inputs and the attributes; returns a gradient for each input, or
            None.
        kind: of a mutant, its family of bugs; "" of a healthy kernel.
        subtle: whether a mutant's error is below one rounding of an element, or shows in rare elements alone.
        of: the healthy kernel that a mutant was.
        torch: whether it takes PyTorch's tensors; NumPy's arrays else.
    """

    op: str
    name: str
    precision: str
    fn: Callable[..., Any]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    backward: Callable[..., Any] | None = None
    kind: str = ""
    subtle: bool = False
    of: Kernel | None = None
    torch: bool = False

    def call(self, inputs: Sequence[Any], gradient: Any = None) -> list[Any]:
        """Its result from NumPy's arrays; and its gradients, if it has a backward pass and a gradient is given."""
        given = [tensor_of(each) for each in inputs] if self.torch else list(inputs)
        made = [self.fn(*given, **self.attributes)]
        if gradient is not None and self.backward is not None:
            made += [each for each in self.backward(gradient, *given, **self.attributes) if each is not None]
        return made

    @property
    def title(self) -> str:
        """One line that tells it from all others."""
        given = ", ".join(f"{name}={value}" for name, value in self.attributes.items())
        return f"{self.op}({given}) in {self.precision}: {self.name}"


def load(given: Any, wide: np.dtype[Any]) -> Any:
    """An input as an array to compute with: floating point in ``wide``, integers as they are."""
    if given is None:
        return None
    if isinstance(given, torch.Tensor):
        given = given.detach()
        given = given.to(torch.float64 if wide == np.float64 else torch.float32) if given.is_floating_point() else given
        return np.array(given.numpy())
    array = np.asarray(given)
    return array if array.dtype.kind in "iu" else array.astype(wide)


def tensor_of(given: Any) -> Any:
    """An input as PyTorch takes it."""
    if given is None or isinstance(given, torch.Tensor):
        return given
    array = np.array(given, order="C")
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def alike(result: Any, given: Any) -> Any:
    """A result (an array in the stored format, or PyTorch's) as the kind of tensor that the kernel was given."""
    if isinstance(result, Sequence | tuple):
        return tuple(alike(each, given) for each in result)
    if result is None or isinstance(given, torch.Tensor) == isinstance(result, torch.Tensor):
        return result
    if isinstance(given, torch.Tensor):
        return tensor_of(result)
    if result.dtype == torch.bfloat16:
        return result.detach().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return result.detach().numpy()


def made_of(body: Body, how: Arithmetic) -> Callable[..., Any]:
    """A kernel: loads its inputs, runs ``body(how, *arrays, **attributes)`` in float32 and stores the result."""

    def run(*inputs: Any, **attributes: Any) -> Any:
        with np.errstate(all="ignore"):
            made = body(how, *(load(each, how.wide) for each in inputs), **attributes)
            if isinstance(made, tuple):
                stored: Any = tuple(None if each is None else how.store(each, how.precision) for each in made)
            else:
                stored = how.store(np.asarray(made, how.wide), how.precision)
        return alike(stored, inputs[0])

    return run


@dataclass(frozen=True)
class Recipe:
    """What a kernel of the corpus is made of; a bug is another recipe.

    Args:
        op, name, attributes: as a kernel has them.
        how: how it rounds.
        body: the algorithm, ``body(how, *arrays, **attributes)``.
        backward: the same for the gradients, ``backward(how, gradient, *arrays, **attributes)``, a tuple.
        around: applied to the finished function, for what happens to stored tensors.
    """

    op: str
    name: str
    how: Arithmetic
    body: Body
    attributes: Mapping[str, Any] = field(default_factory=dict)
    backward: Body | None = None
    around: Callable[[Callable[..., Any]], Callable[..., Any]] = lambda fn: fn

    def kernel(self) -> Kernel:
        """The kernel."""
        backward = None if self.backward is None else made_of(self.backward, self.how)
        fn = self.around(made_of(self.body, self.how))
        return Kernel(self.op, self.name, self.how.precision, fn, self.attributes, backward)

    def mutant(self, bug: Bug) -> Kernel:
        """The kernel with a bug."""
        made, name = bug.change(self).kernel(), f"{self.name}, {bug.name}"
        return replace(made, name=name, kind=bug.kind, subtle=bug.subtle, of=self.kernel())


@dataclass(frozen=True)
class Bug:
    """A bug that can be put into a recipe; its fields are those of a mutated `Kernel`."""

    kind: str
    name: str
    change: Callable[[Recipe], Recipe]
    subtle: bool = False


def stored_name(precision: str) -> str:
    """What PyTorch calls the stored format."""
    base = base_of(precision)
    return "float32" if base == "tf32" else base
