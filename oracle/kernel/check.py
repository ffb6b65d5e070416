"""Check one kernel: draw what finds faults, run it, judge each result, and reduce a failure to what shows it."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from oracle.errors import UsageError
from oracle.kernel.alternatives import explain
from oracle.kernel.bounded import Arithmetic, Array, Bounded
from oracle.kernel.draw import NOT_FINITE, RANDOM, WHOLE, Drawing, draw_integers
from oracle.kernel.judge import Finding, Judged, judge_result, passes_tolerance
from oracle.kernel.operation import EACH, KernelOperation, Shape, Sizes, axes_of
from oracle.kernel.operations import find_operation
from oracle.kernel.subject import Framework, Kernel, out_parameter, to_array
from oracle.kernel.verdict import KernelFailure, KernelVerdict, shapes_in_words
from oracle.kernel.words import cut_off, kind_of, place_of, tile_of
from oracle.precision.profile import FORMATS, Profile, profile_of
from oracle.precision.rounding import round_to

INTEGERS = "int8"
REQUIREMENTS = ("repeatable", "batch invariant")
_SHRINKS = 48  # results of smaller inputs that are looked at for the smallest failure
# Inputs of more elements are drawn in three more ways than normal, or in one; smaller ones in all.
_SMALL, _LARGE = 3_000, 30_000
_BLOCK = 1 << 16  # elements that are judged at a time
_TELLING, _TELLINGS = 400, 3  # elements that tell a kind, and cases that are looked at for so many
CONSERVED = "summed over what it was taken from,"
_TWICE = 4  # cases that run twice


@dataclass(frozen=True)
class Case:
    """Inputs of one run: their shapes (from ``sizes`` where drawn), the kind of values, what is drawn from."""

    shapes: tuple[Shape, ...]
    draw: str
    sizes: Sizes | None = None


@dataclass(frozen=True)
class Run:
    """A result that was judged: which, what it was, and what it should have been."""

    result: str
    actual: Array
    truth: Bounded
    judged: Judged
    dtype: str


def arithmetic_of(precision: str | Profile, draw: str) -> Arithmetic:
    """How a healthy kernel of a precision computes, with values of a kind.

    Raises:
        UsageError: there is no such precision.
    """
    if precision == INTEGERS:
        return Arithmetic(0.0, 0.0, 0.0, whole=True)
    profile = profile_of(precision)
    of = profile.format
    return Arithmetic(
        unit=of.sums,
        sums=of.stored if profile.sums_in_storage else of.sums,
        stored=of.stored,
        factors=of.factors * (2 if profile.truncated else 1),
        products=2 * of.sums if of.matrix_units else 0.0,
        between=of.stored if profile.sums_in_storage else 0.0,
        least=0.0 if of.sums < 2.0**-50 else 2.0**-150,
        tiny=of.least,
        alike=draw not in RANDOM,
        grid=1 / (2 * of.stored),
        whole=draw == WHOLE and not profile.winograd,
        tiles=profile.winograd,
        one_pass=profile.one_pass_variance,
    )


def as_composed(of: Arithmetic) -> Arithmetic:
    """The arithmetic of gradients that a framework's autograd makes in low precision: it is the framework's own kernels
    that make them, one after the other, each storing what it makes; and it adds gradients up where they are stored."""
    return replace(of, unit=of.stored, between=of.stored, least=of.tiny, composed=True)


def check_kernel(
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
    """Run a kernel on inputs that find faults, forward and backward, and judge every result by its derived budget.

    Args:
        fn: the kernel. It is called with the operation's inputs in order (those that it has parameters for, by name
            where its names are the operation's), as arrays of whatever framework it takes: NumPy, PyTorch, CuPy,
            lucid. Attributes are handed on where it has parameters of their names. A parameter ``out`` gets a buffer
            full of NaN to write into.
        op: the operation, as `lucid.nn.functional` or `lucid` calls it: ``"softmax"``, ``"conv2d"``.
        precision: what the kernel stores and how it accumulates: ``float32``, ``tf32``, ``bfloat16``, ``float16``,
            ``float64``, ``int8``, with options as `oracle.precision.profile` spells them.
        backward: a function of the result's gradient and the inputs that returns the gradients of the inputs that have
            one, in order. By default PyTorch's (or lucid's) autograd, where the kernel's results have it.
        shapes: of the inputs, instead of those that are drawn: a list of shapes of the first input, or of tuples with a
            shape for each.
        seed: what values are drawn from.
        device: where tensors are put: ``"cuda"``, ``"cuda:1"``, ``"cupy"``.
        require: what else has to hold: ``"repeatable"``, ``"batch invariant"``.
        **attributes: the operation's, under the names of `lucid.nn.functional`.

    Returns:
        A verdict; ``agrees``, ``sentence()``, ``first``, ``to_dict()``.

    Raises:
        UsageError: an argument cannot be, or the kernel raised whatever it was given.

    Example:
        >>> import numpy as np
        >>> def mean(x):
        ...     return x.mean(-1, dtype=np.float64).astype(x.dtype)
        >>> check_kernel(mean, "mean", axis=-1).agrees
        True
        >>> verdict = check_kernel(lambda x: x[..., : len(x.T) // 16 * 16].sum(-1), "sum", axis=-1, shapes=[(2, 40)])
        >>> verdict.agrees
        False
    """
    return _Check(fn, op, precision, backward, shapes, seed, device, require, attributes).run()


def judge_one(
    actual: Any,
    op: str,
    inputs: Sequence[Any],
    precision: str | None,
    gradient: Any,
    wrt: int | str | None,
    attributes: dict[str, Any],
) -> KernelVerdict:
    """Judge one result by the inputs that it was made of (`oracle.testing.assert_within_budget`).

    Raises:
        UsageError: an argument cannot be.
    """
    operation = find_operation(op)
    given = list(inputs)
    if operation.name == "layer_norm" and len(given) > 1 and isinstance(given[1], int | tuple | list):
        attributes = attributes | {"normalized_shape": given.pop(1)}
    if not given or len(given) > len(operation.arguments):
        names = ", ".join(each.name for each in operation.arguments)
        raise UsageError(f"inputs: got {len(given)}; {operation.name} takes {names}")
    given += [None] * (len(operation.arguments) - len(given))
    for argument, value in zip(operation.arguments, given, strict=True):
        if value is None and not argument.optional:
            raise UsageError(f"inputs: {operation.name} needs {argument.name}")
    if (gradient is None) != (wrt is None):
        raise UsageError("gradient, wrt: a gradient is judged from both, a result from neither")
    actual, dtype = to_array(actual)
    integers = precision == INTEGERS or dtype.startswith(("int", "uint"))
    profile = profile_of("float32" if integers else precision or (dtype if dtype in FORMATS else "float32"))
    values = [None if each is None else to_array(each)[0] for each in given]
    settled = operation.settle(
        operation.with_defaults(attributes), [() if each is None else each.shape for each in values]
    )
    arithmetic = arithmetic_of(INTEGERS if integers else profile, "")
    finite = all(each is None or bool(np.isfinite(each).all()) for each in values)
    upstream = None if gradient is None else to_array(gradient)[0]

    def judge(part: Any) -> tuple[Judged, Bounded, str]:
        """The rows ``part`` of everything that has rows."""
        taken = [None if each is None else each[part] if place == 0 else each for place, each in enumerate(values)]
        bounded = [
            each if each is None or argument.role == "label" else arithmetic.exact(each)
            for argument, each in zip(operation.arguments, taken, strict=True)
        ]
        dy = None if upstream is None else upstream[part]
        truth, name = _truth_of(operation, bounded, dy, wrt, settled, arithmetic)
        contained = operation.contained or finite
        of_part = judge_result(actual[part], truth, profile.base, dtype, zeros=False, contained=contained, leans=None)
        return of_part, truth, name

    verdict = KernelVerdict(operation.name, INTEGERS if integers else str(profile), kernel="the result")
    verdict.checks, verdict.elements = 1, int(actual.size)
    with np.errstate(all="ignore"):
        try:
            for part in _row_blocks(operation, settled, values, actual, wrt):
                judged, _, _ = judge(part)
                verdict.closest = max(verdict.closest, judged.share)
                if judged.finding is not None or judged.blind:
                    break
            else:
                return verdict
            judged, truth, name = judge(...)
        except (ValueError, IndexError) as error:
            raise UsageError(f"inputs: {operation.name} cannot take them: {error}") from None
    verdict.elements, verdict.closest = int(truth.value.size), judged.share
    verdict.checks, verdict.blind = int(not judged.blind), int(judged.blind)
    finding = judged.finding
    if finding is not None:
        wrong = 0 if finding.wrong is None else int(finding.wrong.sum())
        axes = operation.axes if len(operation.axes) == truth.value.ndim else ()
        verdict.failures.append(
            KernelFailure(
                name,
                tuple(each.shape for each in values if each is not None),
                "the given",
                kind_of(actual, truth, finding, profile.base),
                "" if finding.wrong is None else place_of(finding.wrong, axes),
                (wrong, truth.value.size),
                finding.error,
                finding.budget,
                passes_tolerance(actual, truth.value, profile.base),
                "",
            )
        )
    return verdict


def _row_blocks(
    operation: KernelOperation, attributes: Any, values: list[Array | None], actual: Array, wrt: int | str | None
) -> list[Any]:
    """What of a result is judged at a time: all of it, or, where rows have nothing to do with each other, so many that
    all that is computed about them stays in the processor's cache, which is several times as fast."""
    first, axis = values[0], attributes.get("axis", -1)
    assert first is not None
    alone = sum(each is not None for each in values) == 1 and wrt in (None, 0, operation.arguments[0].name)
    if not alone or first.ndim < 2 or first.size <= _BLOCK or actual.shape[:1] != first.shape[:1]:
        return [...]
    apart = operation.apart(attributes, actual.ndim)
    if axis is None or 0 in axes_of(axis, first.ndim) or (apart not in (0, EACH)):
        return [...]
    rows = max(1, _BLOCK // (first.size // len(first)))
    return [slice(start, start + rows) for start in range(0, len(first), rows)]


def _truth_of(
    operation: KernelOperation,
    bounded: list[Any],
    dy: Array | None,
    wrt: int | str | None,
    attributes: Any,
    arithmetic: Arithmetic,
) -> tuple[Bounded, str]:
    """What one result should be, and what it is called."""
    y = operation.forward(bounded, **attributes)
    if wrt is None:
        return y, "output"
    names = [each.name for each in operation.arguments]
    place = names.index(wrt) if wrt in names else wrt
    if not isinstance(place, int) or not 0 <= place < len(names) or bounded[place] is None:
        raise UsageError(f"wrt: got {wrt!r}; may be the place or name of an input that is given: {', '.join(names)}")
    if operation.backward is None or not operation.arguments[place].gradient:
        raise UsageError(f"wrt: {names[place]} has no gradient in {operation.name}")
    assert dy is not None
    if dy.shape != y.shape:
        raise UsageError(f"gradient: got shape {dy.shape}; {operation.name} has a result of {y.shape}")
    return operation.backward(arithmetic.exact(dy), bounded, y, **attributes)[place], f"gradient of {names[place]}"


class _Check:
    def __init__(
        self,
        fn: Callable[..., Any],
        op: str,
        precision: str,
        backward: Callable[..., Any] | None,
        shapes: Sequence[Any] | None,
        seed: int,
        device: str | None,
        require: Sequence[str],
        attributes: dict[str, Any],
    ) -> None:
        if not callable(fn):
            raise UsageError(f"kernel: got {fn!r}, which cannot be called")
        self.operation = find_operation(op)
        self.given = attributes
        self.attributes = self.operation.with_defaults(attributes)
        self.integers = precision == INTEGERS
        if self.integers and not self.operation.whole:
            raise UsageError(f"precision: {self.operation.name} has no result in whole numbers; got {INTEGERS!r}")
        self.profile = profile_of("float32" if self.integers else precision)
        self.precision = INTEGERS if self.integers else str(self.profile)
        self.base = "float32" if self.integers else self.profile.base
        unknown = [each for each in require if each not in REQUIREMENTS]
        if unknown:
            raise UsageError(f"require: got {unknown[0]!r}; may be {' and '.join(map(repr, REQUIREMENTS))}")
        self.require, self.seed, self.shapes = tuple(require), seed, shapes
        self.kernel = Kernel(fn, self.operation, attributes, device)
        self.backward = None
        if backward is not None:
            self.backward = Kernel(backward, self.operation, attributes, device, gradient=True)
        self.taken = self.kernel.arguments()
        name = getattr(fn, "__name__", type(fn).__name__)
        self.verdict = KernelVerdict(self.operation.name, self.precision, kernel=name)
        self._twice = 0
        self._backward_off = ""

    # What is run

    def cases(self) -> Iterator[tuple[Case, bool]]:
        """Each case, and whether gradients are checked in it."""
        draws = self.operation.draws
        if self.integers:
            draws = ()
        if self.shapes is not None:
            for shapes in self._given_shapes():
                for draw in ("normal", *draws):
                    yield Case(shapes, draw), draw in ("normal", WHOLE, "offset", "small", "strided")
            return
        sizes = self.operation.sizes(self.attributes)
        for index, each in enumerate(sizes):
            shapes = self.operation.shapes(each, self.attributes)
            yield Case(shapes, "normal", each), True
            size = max(map(prod, shapes))
            several = len(draws) if size <= _SMALL else 3 if size <= _LARGE else 1
            for more in range(min(len(draws), several)):
                draw = draws[(several * index + more) % len(draws)]
                if size > _LARGE and draw == "constant":  # so many ones are more than float16 counts
                    continue
                yield Case(shapes, draw, each), draw in (WHOLE, "offset", "small")

    def _given_shapes(self) -> list[tuple[Shape, ...]]:
        given = list(self.shapes or ())
        if given and all(isinstance(each, int) for each in given):
            given = [tuple(given)]
        found = []
        for each in given:
            entry = tuple(each)
            if all(isinstance(side, int | np.integer) for side in entry):
                found.append(_others(self.operation, tuple(map(int, entry)), self.attributes))
            else:
                shapes = tuple(tuple(map(int, shape)) for shape in entry)
                missing = len(self.operation.arguments) - len(shapes)
                if missing:
                    derived = _others(self.operation, shapes[0], self.attributes, shapes)
                    shapes = (*shapes, *derived[len(shapes) :])
                found.append(shapes)
        if not found:
            raise UsageError("shapes: got none; may be a list of shapes")
        return found

    def inputs(self, case: Case) -> list[Array | None]:
        """The values of a case, ``None`` for inputs that the kernel does not take."""
        axis = self.attributes.get("axis", -1)
        found: list[Array | None] = []
        for place, (argument, shape) in enumerate(zip(self.operation.arguments, case.shapes, strict=True)):
            rng = self._rng(case, place)
            row = axis if isinstance(axis, int) and -len(shape) <= axis < len(shape) else -1
            if self.integers and argument.role != "label":
                small = self.operation.name in ("add", "subtract", "multiply")
                values = rng.integers(-8, 8, shape).astype(np.float64) if small else draw_integers(shape, rng)
            else:
                drawn = Drawing(self.operation, argument, place, shape or (1,), row, self.profile, rng)
                values = drawn.values(case.draw).reshape(shape)
            if argument.role == "label":
                of, side = argument.below
                values = values % max(1, case.shapes[of][side])
            found.append(values if self.taken[place] is not None else None)
        return found

    def _rng(self, case: Case, place: int) -> Any:
        told = f"{self.operation.name} {case.shapes} {case.draw}".encode()
        return np.random.default_rng([self.seed, zlib.crc32(told), place])

    # How it is run

    def run(self) -> KernelVerdict:
        """All cases, until one fails."""
        raised: list[str] = []
        for case, gradients in self.cases():
            try:
                failed = self.judge(case, gradients, count=True)
            except _KernelRaisedError as error:
                raised.append(str(error))
                self.verdict.refused.append(f"{shapes_in_words(case.shapes)}: {error}")
                continue
            if failed is not None:
                self._report(case, gradients, failed)
                break
        if not self.verdict.checks and not self.verdict.failures:
            raise UsageError(f"kernel: {self.verdict.kernel} raised at every shape; the first: {raised[0]}")
        if self._backward_off:
            self.verdict.notes.append(f"gradients were not checked: {self._backward_off}")
        return self.verdict

    def judge(self, case: Case, gradients: bool, count: bool = False) -> Run | None:
        """Run a case; the first result that is wrong, or ``None``."""
        values = self.inputs(case)
        attributes = self.operation.settle(self.attributes, case.shapes)
        arithmetic = arithmetic_of(INTEGERS if self.integers else self.profile, case.draw)
        bounded = [self._bounded(arithmetic, place, each) for place, each in enumerate(values)]
        with np.errstate(all="ignore"):
            truth = self.operation.forward(bounded, **attributes)
        made = self._make(values, case)
        result = self._call(self.kernel, made, attributes, truth.shape)
        for run in self._judged(case, values, attributes, bounded, truth, made, result, gradients):
            if count and run.judged.blind:
                self.verdict.blind += 1
            elif count:
                self.verdict.checks += 1
                self.verdict.elements += run.truth.value.size
                if run.judged.finding is None:
                    self.verdict.closest = max(self.verdict.closest, run.judged.share)
            if run.judged.finding is not None:
                return run
        return None

    def _judged(
        self,
        case: Case,
        values: Any,
        attributes: Any,
        bounded: Any,
        truth: Bounded,
        made: Any,
        result: Any,
        gradients: bool,
    ) -> Iterator[Run]:
        yield self._of(case, "output", result, truth)
        yield from self._side_effects(case, values, attributes, bounded, made)
        if case.draw == "normal" and self._twice < _TWICE:
            self._twice += 1
            yield from self._again(case, values, attributes, truth, result)
        if gradients and self.operation.backward is not None and not self.integers:
            yield from self._gradients(case, values, attributes, bounded, truth)

    def _bounded(self, arithmetic: Arithmetic, place: int, values: Array | None) -> Any:
        if values is None or self.operation.arguments[place].role == "label":
            return values
        return arithmetic.exact(values)

    def _make(self, values: Sequence[Array | None], case: Case, framework: Framework | None = None) -> list[Any]:
        framework = framework or self.kernel.framework
        if framework is None:
            return list(values)
        name = INTEGERS if self.integers else self.base
        strided = case.draw == "strided"
        return [
            None
            if each is None
            else framework.make(each, name, strided and self.operation.arguments[place].role != "label")
            for place, each in enumerate(values)
        ]

    def _call(self, kernel: Kernel, made: list[Any], attributes: Any, shape: Shape) -> Any:
        if kernel.framework is not None:
            return self._quietly(kernel, made, attributes, shape)
        told = []
        for name in kernel.candidates():
            kernel.framework = Framework(name, kernel.device)
            try:
                tensors = self._make(made, Case((), "normal"), kernel.framework)
                result = self._quietly(kernel, tensors, attributes, shape)
            except _KernelRaisedError as error:
                told.append(f"with {name} arrays {error}")
                continue
            if name == "numpy" and type(result).__module__.split(".")[0] == "torch":
                kernel.framework = Framework("torch", kernel.device)
                tensors = self._make(made, Case((), "normal"), kernel.framework)
                result = self._quietly(kernel, tensors, attributes, shape)
            made[:] = tensors
            return result
        kernel.framework = None
        raise _KernelRaisedError("; ".join(told))

    def _quietly(
        self, kernel: Kernel, tensors: list[Any], attributes: Any, shape: Shape, ahead: Any = (), y: Any = None
    ) -> Any:
        named = {}
        if out_parameter(kernel):
            assert kernel.framework is not None
            named["out"] = kernel.framework.make(np.full(shape, np.nan), self.base)
        _poison(shape)
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                result = kernel.call(tensors, attributes, ahead, y, **named)
        except (KeyboardInterrupt, SystemExit, MemoryError):
            raise
        except Exception as error:
            raise _KernelRaisedError(f"{type(error).__name__}: {error}") from error
        return named["out"] if result is None and named else result

    # What is judged

    @property
    def _of_first(self) -> str:
        return f"gradient of {self.operation.arguments[0].name}"

    def _of(self, case: Case, name: str, result: Any, truth: Bounded, composed: bool = False) -> Run:
        actual, dtype = to_array(result)
        if self.integers:
            same = actual.shape == truth.shape
            wrong = actual != truth.value if same else None
            bad = not same or bool(wrong is not None and wrong.any())
            finding = Finding("elements" if same else "shape", wrong, float("inf")) if bad else None
            return Run(name, actual, truth, Judged(float(bad), finding), dtype)
        random = case.draw in RANDOM and (
            name == "output" or (self.operation.lean_gradients and name == self._of_first)
        )
        leans = self.operation.apart(self.attributes, truth.value.ndim) if random and not composed else None
        judged = judge_result(
            actual,
            truth,
            self.base,
            dtype,
            zeros=self.operation.zeros and name == "output",
            contained=self.operation.contained or case.draw not in NOT_FINITE,
            leans=leans,
            constants=self.operation.constants,
        )
        return Run(name, actual, truth, judged, dtype)

    def _side_effects(self, case: Case, values: Any, attributes: Any, bounded: Any, made: Any) -> Iterator[Run]:
        """Inputs that it changed: running statistics as they should be, others not at all."""
        changes = {}
        if self.operation.changes is not None:
            with np.errstate(all="ignore"):
                changes = dict(self.operation.changes(bounded, **attributes))
        for place, (argument, value) in enumerate(zip(self.operation.arguments, values, strict=True)):
            if value is None:
                continue
            now, dtype = to_array(made[place])
            if np.array_equal(now, value, equal_nan=True):
                continue
            if place in changes:
                yield self._of(case, f"{argument.name} afterwards", made[place], changes[place])
            else:
                truth = Arithmetic(0.0, 0.0, 0.0).exact(value)
                yield Run(
                    f"input {argument.name}, which the kernel overwrote,", now, truth,
                    Judged(np.inf, Finding("overwritten", now != value)), dtype,
                )  # fmt: skip

    def _again(self, case: Case, values: Any, attributes: Any, truth: Bounded, result: Any) -> Iterator[Run]:
        """The same once more: within the budget too, and of the same bits; and the first of a batch alone."""
        again = self._call(self.kernel, self._make(values, case), attributes, truth.shape)
        first, second = to_array(result)[0], to_array(again)[0]
        if not np.array_equal(first, second, equal_nan=True):
            self.verdict.repeatable = False
            if "repeatable" in self.require:
                run = self._of(case, "output, the second time,", again, truth)
                yield replace(run, judged=Judged(np.inf, Finding("not repeatable", first != second)))
        if "batch invariant" in self.require and truth.value.ndim > 0 and len(truth.value) > 1:
            alone = self._alone(case, values, attributes, truth)
            if alone is not None and not np.array_equal(alone, first[:1], equal_nan=True):
                part = replace(truth, value=truth.value[:1], error=truth.error[:1], pending=truth.pending[:1])
                yield Run(
                    "output, the first of the batch alone,", alone, part,
                    Judged(np.inf, Finding("not batch invariant", alone != first[:1])), "",
                )  # fmt: skip

    def _alone(self, case: Case, values: Any, attributes: Any, truth: Bounded) -> Array | None:
        if len(values[0]) != len(truth.value):
            return None
        of_batch = [place == 0 or argument.role == "label" for place, argument in enumerate(self.operation.arguments)]
        parts = [
            None if each is None else each[:1] if first and len(each) == len(truth.value) else each
            for each, first in zip(values, of_batch, strict=True)
        ]
        return to_array(self._call(self.kernel, self._make(parts, case), attributes, (1, *truth.shape[1:])))[0]

    def _gradients(self, case: Case, values: Any, attributes: Any, bounded: Any, truth: Bounded) -> Iterator[Run]:
        dy = self._upstream(case, truth.shape)
        wanted = [
            place
            for place, argument in enumerate(self.operation.arguments)
            if argument.gradient and values[place] is not None
        ]
        found = self._found_gradients(case, values, attributes, dy, wanted, truth.shape)
        if found is None:
            return
        composed = self.backward is None and truth.of.stored > truth.of.unit
        if composed:
            bounded = [
                replace(each, of=as_composed(each.of)) if isinstance(each, Bounded) else each for each in bounded
            ]
            truth = replace(truth, of=as_composed(truth.of))
        assert self.operation.backward is not None
        with np.errstate(all="ignore"):
            made = self.operation.backward(truth.of.exact(dy), bounded, truth, **attributes)
        for place in wanted:
            if found.get(place) is not None and place in made:
                name = f"gradient of {self.operation.arguments[place].name}"
                # Products are made in whatever order, and what lies between may lose the last digits that are stored.
                wanted_one = made[place].with_error(4 * truth.of.tiny) if composed else made[place]
                yield self._of(case, name, found[place], wanted_one, composed)
        if self.operation.conserves is not None and found.get(0) is not None:
            yield self._conserved(case, found[0], truth, dy)

    def _conserved(self, case: Case, gradient: Any, truth: Bounded, dy: Array) -> Run:
        """Whoever wins a tie, the gradient is handed on once."""
        assert self.operation.conserves is not None
        actual, dtype = to_array(gradient)
        axes = self.operation.conserves(self.attributes, actual.ndim)
        value, size = (each.sum(axes) if each.ndim == actual.ndim else each for each in (dy, np.abs(dy)))
        unit = max(truth.of.stored, truth.of.unit)
        error = (4 * unit + truth.of.sums * 64) * size + actual.size * truth.of.tiny
        exact = Bounded(truth.of, value, error, np.zeros_like(value))
        name = f"{self._of_first}, {CONSERVED}"
        judged = judge_result(actual.sum(axes), exact, "float64", dtype, zeros=False, contained=True, leans=None)
        return Run(name, actual.sum(axes), exact, judged, dtype)

    def _upstream(self, case: Case, shape: Shape) -> Array:
        """The gradient that comes from behind."""
        rng = self._rng(case, len(case.shapes))
        dy = rng.integers(-3, 4, shape).astype(np.float64) if case.draw == WHOLE else rng.standard_normal(shape)
        return np.asarray(round_to(dy, self.profile), np.float64)

    def _found_gradients(
        self, case: Case, values: Any, attributes: Any, dy: Array, wanted: list[int], shape: Shape
    ) -> dict[int, Any] | None:
        """The kernel's gradients by place; ``None`` where it has none."""
        if self.backward is not None:
            kernel = self.backward
            kernel.framework = kernel.framework or self.kernel.framework
            assert kernel.framework is not None
            ahead = [kernel.framework.make(dy, self.base)]
            y = self._call(self.kernel, self._make(values, case), attributes, shape) if kernel.takes_result() else None
            result = self._quietly(kernel, self._make(values, case), attributes, case.shapes[0], ahead, y)
            return _by_place(result, wanted, len(values))
        if self._backward_off:
            return None
        found, why = self._autograd(case, values, attributes, dy, wanted)
        if found is None:
            self._backward_off = why
        return found

    def _autograd(
        self, case: Case, values: Any, attributes: Any, dy: Array, wanted: list[int]
    ) -> tuple[dict[int, Any] | None, str]:
        framework = self.kernel.framework
        assert framework is not None
        if framework.name not in ("torch", "lucid"):
            return None, f"{framework.name} has no autograd, and no backward= was given"
        made = self._make(values, case)
        gradient = framework.make(dy, self.base)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return _differentiated(self.kernel, framework.name, made, gradient, attributes, wanted)
        except Exception as error:
            return None, f"the kernel cannot be differentiated ({type(error).__name__}: {error})"

    # What is said

    def _report(self, case: Case, gradients: bool, failed: Run) -> None:
        """Say what happened, from a case that is large enough to tell, and the smallest in which it still does."""
        smallest, last = self._shrunk(case, gradients, failed)
        case, failed = self._telling(case, gradients, failed)
        finding = failed.judged.finding
        assert finding is not None
        shapes, told_at = (self._given_of(each.shapes) for each in (smallest, case))
        wrong = 0 if finding.wrong is None else int(finding.wrong.sum())
        place = "" if finding.wrong is None else place_of(finding.wrong, self._axes(failed))
        self.verdict.failures.append(
            KernelFailure(
                failed.result,
                shapes,
                case.draw,
                self._kind(case, failed, finding),
                "; ".join(filter(None, (place, tile_of(smallest.sizes)))),
                (wrong, failed.truth.value.size),
                finding.error,
                finding.budget,
                not self.integers and passes_tolerance(last.actual, last.truth.value, self.base),
                self._line(smallest),
                self._hint(case, gradients),
                told_at,
            )
        )

    def _given_of(self, shapes: tuple[Shape, ...]) -> tuple[Shape, ...]:
        """The shapes of the inputs that the kernel takes."""
        return tuple(shape for shape, taken in zip(shapes, self.taken, strict=True) if taken is not None)

    def _telling(self, case: Case, gradients: bool, failed: Run) -> tuple[Case, Run]:
        """A case that fails in the same result and is large enough to tell the kind."""
        if failed.truth.value.size >= _TELLING or case.sizes is None:
            return case, failed
        left = _TELLINGS
        for sizes in self.operation.sizes(self.attributes):
            shapes = self.operation.shapes(sizes, self.attributes)
            if left and _TELLING <= max(map(prod, shapes)) <= _LARGE:
                left -= 1
                larger = Case(shapes, case.draw, sizes)
                try:
                    run = self.judge(larger, gradients)
                except (_KernelRaisedError, UsageError):
                    continue
                if run is not None and run.result == failed.result:
                    return larger, run
        return case, failed

    def _kind(self, case: Case, failed: Run, finding: Finding) -> str:
        if finding.kind in ("elements", "lean", "not finite") and not self.integers:
            told = cut_off(failed.actual, failed.truth, self.base) or self._instead(case, failed, finding)
            if told:
                return told
        if failed.result == f"{self._of_first}, {CONSERVED}":
            return "where elements tie, the gradient is not handed on once: to several of them in full, or to none"
        return kind_of(failed.actual, failed.truth, finding, self.base)

    def _output_shape(self, inputs: list[Array | None], attributes: Any) -> Shape:
        bounded = [self._bounded(Arithmetic(0.0, 0.0, 0.0), place, each) for place, each in enumerate(inputs)]
        with np.errstate(all="ignore"):
            return self.operation.forward(bounded, **attributes).shape

    def _instead(self, case: Case, failed: Run, finding: Finding) -> str:
        """What the kernel computed instead, if it is known."""
        arithmetic = failed.truth.of
        named = {f"gradient of {each.name}": place for place, each in enumerate(self.operation.arguments)}
        if failed.result != "output" and failed.result not in named:
            return ""

        rank = failed.truth.value.ndim
        leans = self.operation.apart(self.attributes, rank) if finding.kind == "lean" else None

        def agrees(truth: Bounded) -> bool:
            judged = judge_result(
                failed.actual,
                truth,
                self.base,
                failed.dtype,
                zeros=False,
                contained=True,
                leans=leans,
                constants=self.operation.constants,
            )
            return judged.finding is None

        inputs = self.inputs(case)
        attributes = self.operation.settle(self.attributes, case.shapes)
        place = named.get(failed.result)
        dy = None if place is None else self._upstream(case, self._output_shape(inputs, attributes))
        with np.errstate(all="ignore"):
            return explain(self.operation, inputs, attributes, agrees, arithmetic, place, dy)

    def _axes(self, failed: Run) -> tuple[str, ...]:
        rank = failed.truth.value.ndim
        return self.operation.axes if len(self.operation.axes) == rank else ()

    def _hint(self, case: Case, gradients: bool) -> str:
        """Whether a declared option of the precision would explain it."""
        if self.integers:
            return ""
        before = self.profile
        fitting = []
        try:
            for profile in before.with_more():
                self.profile = profile
                if self.judge(case, gradients) is None:
                    fitting.append(str(profile))
        except (_KernelRaisedError, UsageError):
            pass
        finally:
            self.profile = before
        named = " or ".join(f"'{each}'" for each in fitting)
        return f"within what precision={named} allows" if named else ""

    def _shrunk(self, case: Case, gradients: bool, failed: Run) -> tuple[Case, Run]:
        """The smallest sizes at which it fails in the same result, looked for greedily."""
        if case.sizes is None:
            return case, failed
        left, tried = _SHRINKS, {case.sizes}
        smaller = True
        while smaller and left > 0:
            smaller = False
            for sizes in _smaller(case.sizes or ()):
                if sizes in tried or left <= 0:
                    continue
                tried.add(sizes)
                left -= 1
                try:
                    shapes = self.operation.shapes(sizes, self.attributes)
                    candidate = Case(shapes, case.draw, sizes)
                    run = self.judge(candidate, gradients)
                except (_KernelRaisedError, UsageError, ValueError, ZeroDivisionError):
                    continue
                if run is not None and run.result == failed.result:
                    case, failed, smaller = candidate, run, True
                    break
        return case, failed

    def _line(self, case: Case) -> str:
        shapes = case.shapes if len(case.shapes) > 1 else case.shapes[0]
        more = "".join(f", {name}={value!r}" for name, value in self.given.items())
        extra = f", require={self.require!r}" if self.require else ""
        return (
            f'oracle.check_kernel({self.verdict.kernel}, "{self.operation.name}", precision="{self.precision}", '
            f"shapes=[{shapes!r}], seed={self.seed}{extra}{more})"
        )


class _KernelRaisedError(Exception):
    """The kernel raised."""


def _differentiated(
    kernel: Kernel, framework: str, made: list[Any], gradient: Any, attributes: Any, wanted: list[int]
) -> tuple[dict[int, Any] | None, str]:
    """Gradients by the framework's autograd."""
    if framework == "torch":
        import torch

        for place in wanted:
            made[place] = made[place].detach().requires_grad_()
        y = kernel.call(made, attributes)
        y = y[0] if isinstance(y, tuple | list) else y
        if not (isinstance(y, torch.Tensor) and y.requires_grad):
            return None, "the kernel's result has no gradient, and no backward= was given"
        with np.errstate(all="ignore"):
            found = torch.autograd.grad(y, [made[place] for place in wanted], gradient.to(y.dtype), allow_unused=True)
        return dict(zip(wanted, found, strict=True)), ""
    for place in wanted:
        made[place].requires_grad = True
    y = kernel.call(made, attributes)
    if not y.requires_grad:
        return None, "the kernel's result has no gradient, and no backward= was given"
    y.backward(gradient)
    return {place: made[place].grad for place in wanted}, ""


def _by_place(result: Any, wanted: list[int], inputs: int) -> dict[int, Any]:
    """Gradients by the place of their input, from what a backward function returned."""
    found = list(result) if isinstance(result, tuple | list) else [result]
    if len(found) == inputs and inputs != len(wanted):
        return dict(enumerate(found))
    if len(found) > len(wanted):
        raise UsageError(f"backward: it returned {len(found)} gradients; there are {len(wanted)} inputs that have one")
    return dict(zip(wanted, found, strict=False))


def _others(
    operation: KernelOperation, first: Shape, attributes: Any, given: Sequence[Shape] = ()
) -> tuple[Shape, ...]:
    """The shapes of all inputs from that of the first, where it says enough."""
    count, name = len(operation.arguments), operation.name
    if count == 1:
        return (first,)
    if name == "layer_norm":
        last = operation.settle(attributes, [first])["normalized_shape"]
        last = (last,) if isinstance(last, int) else tuple(last)
        return first, last, last
    if name == "batch_norm":
        return first, *((first[1],),) * 4
    if name in ("group_norm", "instance_norm"):
        return first, (first[1],), (first[1],)
    if name == "rms_norm":
        return first, first[-1:]
    if name == "rotary_embedding":
        return first, *((first[-2], first[-1] // 2),) * 2
    if name in ("scaled_dot_product_attention", "masked_attention"):
        key = given[1] if len(given) > 1 else first
        return (first, key, key, (first[-2], key[-2]))[:count]
    if name in ("cross_entropy", "nll_loss"):
        return first, (first[0],), (first[1],)
    if (name == "linear" or name.startswith("conv")) and "grad" not in name and len(given) == 2:
        groups = attributes["groups"] if "transpose" in name else 1
        return first, given[1], ((given[1][1] * groups,) if "transpose" in name else (given[1][0],))
    if name in ("matmul", "bmm", "linear", "embedding", "grid_sample") or name.startswith("conv"):
        names = ", ".join(each.name for each in operation.arguments)
        raise UsageError(f"shapes: {name} needs a shape for each of {names}; got {first}")
    return (first,) * count


def _smaller(sizes: Sizes) -> Iterator[Any]:
    """Sizes with one side less: of each, the least first. Shapes among them are made smaller side by side."""
    for index, size in enumerate(sizes):
        if isinstance(size, tuple):
            for inner in _smaller(size):
                yield (*sizes[:index], inner, *sizes[index + 1 :])
            continue
        for less in sorted({1, size // 2, size - 1}):
            if 0 < less < size:
                yield (*sizes[:index], less, *sizes[index + 1 :])


def _poison(shape: Shape) -> None:
    """Leave NaN in memory that is free, so that a buffer that is not written shows."""
    count = min(prod(shape), 1 << 16)
    for kind in (np.float32, np.float64, np.float16):
        buffers = [np.full(count, np.nan, kind) for _ in range(2)]
        del buffers
