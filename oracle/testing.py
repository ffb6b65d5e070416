"""The oracle inside somebody's own tests: one call that fails with the first layer that is out of line.

    from oracle.testing import assert_matches_golden

    def test_our_runtime():
        assert_matches_golden("trace.safetensors", "resnet_18-train")

``oracle.pytest_plugin``, which pytest finds by itself, counts what such calls compared: ``pytest --oracle-require=1``
fails where it was nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lucid.console import visible
from oracle.case.names import Rules
from oracle.errors import UsageError
from oracle.judge.summary import layer_to_dict
from oracle.judge.verdicts import tensor_in_words
from oracle.kernel.check import check_kernel, judge_one
from oracle.kernel.verdict import KernelVerdict
from oracle.report.chart import in_words
from oracle.run import Verdict, compare_trace
from oracle.subjects.file import as_recorded, parse_name, read_trace
from oracle.trace import Key, NotNumbersError, Trace, to_numbers
from oracle.truth.goldens import Golden

__all__ = [
    "OutOfLineError",
    "assert_agrees",
    "assert_kernel",
    "assert_matches_golden",
    "assert_within_budget",
    "tensors_compared",
]

_CLOSEST = 5  # layers that a failure lists beside the first
_compared = 0


class OutOfLineError(AssertionError):
    """A verdict that does not agree, kept as ``verdict``; the text names the first layer that is out of line."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(_message(verdict))
        self.verdict = verdict


class KernelOutOfLineError(OutOfLineError):
    """A kernel, or one of its results, that disagrees; its ``verdict`` is an `oracle.kernel.verdict.KernelVerdict`."""

    def __init__(self, verdict: KernelVerdict) -> None:
        AssertionError.__init__(self, "\n".join(map(visible, verdict.sentence().splitlines())))
        self.verdict: Any = verdict


def assert_matches_golden(
    trace: Trace | Mapping[Any, Any] | str | Path,
    golden: str | Golden,
    precision: str = "float32",
    *,
    stored: bool = False,
    names: Path | Mapping[str, Any] | None = None,
    directory: Path | None = None,
) -> Verdict:
    """Fail unless every tensor of ``trace`` is within the budget of a golden.

    Args:
        trace: a `Trace`, a file (``.safetensors`` or ``.npz``), or arrays or tensors by name:
            ``"activation/layer1.0.conv1"``, ``"activation_gradient/layer1.0.conv1"``,
            ``"parameter_gradient/layer1.0.conv1.weight"``, ``"loss"``. What it leaves out is not observed; it must hold
            something. torchvision's names and wrappers' prefixes are read too.
        golden: its name, such as ``"resnet_18-train"``.
        precision: what the run was computed in; chooses the budget. May have options, as `oracle.precision.profile`
            spells them: ``"float16, sums in float16"``.
        stored: judge by the golden's samples and projections alone, without computing the truth again.
        names: rules for other names, theirs to ours, or a file of them (`oracle.case.names.Rules`).
        directory: where the goldens are, if they are not the project's.

    Returns:
        The verdict, for whoever wants to write a report of it.

    Raises:
        OutOfLineError: it does not match; an ``AssertionError``.
        UsageError: there is no such golden, or the trace holds nothing of it.
    """
    __tracebackhide__ = True
    found = Golden.load(golden, directory) if isinstance(golden, str) else golden
    rules = None if names is None else Rules(names) if isinstance(names, Mapping) else Rules.read(Path(names))
    tensors = to_trace(trace, {key: found.shape(key) for key in found}, rules)
    verdict = compare_trace(tensors, found, precision, stored=stored, rules=rules)
    assert_agrees(verdict)
    return verdict


def assert_agrees(verdict: Verdict) -> None:
    """Fail unless a verdict, such as `oracle.check` returns, agrees; count what it compared.

    Raises:
        OutOfLineError: it does not, or nothing was compared.
    """
    __tracebackhide__ = True
    global _compared
    if not verdict.agrees:
        raise OutOfLineError(verdict)
    judged = {
        (case.case.name, subject.subject, layer.kind, layer.name)
        for case in verdict.cases
        for subject in case.subjects
        for layer in subject.judged
    }
    _compared += len(judged)


def assert_kernel(
    fn: Callable[..., Any],
    op: str,
    *,
    precision: str = "float32",
    backward: Callable[..., Any] | None = None,
    shapes: Sequence[Any] | None = None,
    seed: int = 0,
    device: str | None = None,
    require: Sequence[str] = (),
    **attributes: Any,
) -> KernelVerdict:
    """Fail unless a kernel returns what a healthy one may, forward and backward, on inputs that find faults.

    The arguments are those of `oracle.check_kernel`.

    Raises:
        OutOfLineError: it does not; an ``AssertionError``, whose ``verdict`` says all.
        UsageError: an argument cannot be, or the kernel raised whatever it was given.

    Example:
        >>> import numpy as np
        >>> def relu(x):
        ...     return np.maximum(x, 0)
        >>> assert_kernel(relu, "relu").agrees
        True
    """
    __tracebackhide__ = True
    global _compared
    verdict = check_kernel(
        fn,
        op,
        precision=precision,
        backward=backward,
        shapes=shapes,
        seed=seed,
        device=device,
        require=require,
        **attributes,
    )
    if not verdict.agrees:
        raise KernelOutOfLineError(verdict)
    _compared += verdict.checks
    return verdict


def assert_within_budget(
    actual: Any,
    op: str,
    *inputs: Any,
    precision: str | None = None,
    gradient: Any = None,
    wrt: int | str | None = None,
    **attributes: Any,
) -> None:
    """Fail unless one result is what a healthy kernel may make of these very inputs: instead of ``allclose``.

    Args:
        actual: the result: an array or tensor.
        op: the operation that made it.
        *inputs: what it was made of, in the order of `lucid.nn.functional`; ``None`` for an optional one that is left
            out.
        precision: what it was computed in; by default what its dtype says.
        gradient: of a gradient: that of the operation's result.
        wrt: and the input that it is the gradient of, by place or name.
        **attributes: the operation's, under the names of `lucid.nn.functional`.

    Raises:
        OutOfLineError: it is not; an ``AssertionError``.
        UsageError: an argument cannot be.

    Example:
        >>> import numpy as np
        >>> x = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
        >>> assert_within_budget(np.maximum(x, 0), "relu", x)
        >>> assert_within_budget(np.maximum(x, 0) + 1e-6, "relu", x)
        Traceback (most recent call last):
        ...
        oracle.testing.KernelOutOfLineError: ...
    """
    __tracebackhide__ = True
    global _compared
    verdict = judge_one(actual, op, inputs, precision, gradient, wrt, attributes)
    if not verdict.agrees:
        raise KernelOutOfLineError(verdict)
    _compared += 1


def tensors_compared() -> int:
    """How many tensors the assertions here have found in line in this process.

    A tensor counts once, in however many views it was judged, and not at all where no view could judge it.
    """
    return _compared


def to_trace(
    tensors: Trace | Mapping[Any, Any] | str | Path,
    shapes: Mapping[Key, Any] | None = None,
    rules: Rules | None = None,
) -> Trace:
    """A trace of whatever a test has: a trace, a file, or named arrays or PyTorch tensors.

    Args:
        tensors: what the test has.
        shapes: what the case has; of a file, what is larger is not read.
        rules: how names with their kind are read, and which kind those have that have none.

    Raises:
        UsageError: a name is none of a trace's tensor, what it names holds no numbers, or the file cannot be read.

    Example:
        >>> list(to_trace({"activation/fc": [[1.0, 2.0]], "loss": 0.5}))
        [('activation', 'fc'), ('loss', 'loss')]
    """
    if isinstance(tensors, Trace):
        return tensors
    if isinstance(tensors, str | Path):
        return read_trace(Path(tensors), shapes, rules).trace
    trace = Trace()
    for given, value in tensors.items():
        name = given if rules is None or isinstance(given, tuple) else rules.file_name(given)
        if name is None:
            continue
        key: Key | None = name if isinstance(name, tuple) else parse_name(name)
        if key is None:
            raise UsageError(
                f"trace: {name!r} is no name of a trace's tensor; may be such as 'activation/layer1.0.conv1', "
                "'activation_gradient/layer1.0.conv1', 'parameter_gradient/layer1.0.conv1.weight' or 'loss'"
            )
        try:
            trace.record(*key, as_recorded(key, to_numbers(value)))
        except NotNumbersError as error:
            raise UsageError(f"trace: {name!r} holds no numbers: it is {error}") from None
    return trace


def _message(verdict: Verdict) -> str:
    """The sentences of what disagrees, and the layers that used most of their budget."""

    lines = []
    for case in verdict.cases:
        for subject in case.subjects:
            if subject.agrees:
                continue
            lines.append(f"{case.case.name}: {subject.sentence()}")
            over = [layer for layer in subject.judged if not layer.agrees]
            lines += [f"  {tensor_in_words(layer)}: {_row(layer)}" for layer in over[:_CLOSEST]]
            if len(over) > _CLOSEST:
                lines.append(f"  and {len(over) - _CLOSEST} more of {len(subject.layers)} tensors")
    return "\n".join(map(visible, lines)) or "nothing was compared, which is no agreement"


def _row(layer: Any) -> str:
    return in_words(layer_to_dict(layer)).partition(": ")[2]
