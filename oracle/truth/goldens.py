"""The store of goldens: the truths of cases, in files that need nothing of this project to be read.

A golden is ``NAME.json`` (the case, and of every tensor in the order of execution its kind, name, shape and digests)
and ``NAME.safetensors`` (its root mean square, samples, sketch, budgets); ``manifest.json`` holds the SHA-256 and size
of every file and says what made it. ``golden/README.md`` describes all of it. Reading verifies: a golden that is not
what the manifest says is a `GoldenError` which names the file.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import numpy as np

from lucid.files import open_regular
from lucid.models.seeded import seeded_words
from oracle.budget.free import in_float64
from oracle.case.case import SEEDED, Case, standard_case
from oracle.case.shapes import shapes_of
from oracle.case.zoo import STANDARD
from oracle.errors import UsageError
from oracle.files import parse_json
from oracle.operations import rectified
from oracle.precision.difference import Budget, Precision, channels
from oracle.trace import KINDS, Key, Trace
from oracle.truth.digest import digest
from oracle.truth.sides import LEAST_TWO_SIDED, least_two_sided, two_sided_share

FORMAT = "lucid-oracle golden 2"
MANIFEST = "manifest.json"
# Of a golden's files: the description and the tables; and of a model of somebody's own, the weights and the input.
SUFFIXES = ("json", "safetensors", "weights.safetensors", "input.npy")
LAW = 1  # the version of lucid/ARITHMETIC.md whose digests are stored
SAMPLES = 8
BUCKETS = 16
STORED: tuple[Precision, ...] = ("float32", "tf32", "bfloat16", "float16")

# Budgets are stored on a grid of an eighth of an octave, rounded up.
GRID = 8
_CODE_ZERO = 128


class GoldenError(UsageError):
    """A golden is missing or damaged, or of another law; the text names the file and, where it can, the tensor."""


def golden_directory() -> Path:
    """Where the package keeps its goldens."""
    spec = find_spec("golden")  # a directory of data, without modules
    places = [Path(place) for place in (spec.submodule_search_locations or ())] if spec is not None else []
    return next(
        (place for place in places if (place / "manifest.json").is_file()), Path(__file__).parents[2] / "golden"
    )


def golden_cases() -> dict[str, Case]:
    """Every case that a golden is made of, by name.

    Example:
        >>> len(golden_cases())
        28
    """
    cases = [standard_case(model, mode) for model in STANDARD.values() for mode in ("eval", "train")]
    return {case.name: case for case in cases}


# -- the recipe -------------------------------------------------------------------------------------------------------


def sample_positions(case: str, key: Key, size: int) -> np.ndarray:
    """Where a tensor is sampled: seeded flat positions.

    Example:
        >>> sample_positions("resnet_18-eval", ("activation", "fc"), 1000).tolist()[:3]
        [964, 112, 207]
    """
    words = seeded_words(0, f"golden/{case}/{'/'.join(key)}/samples", SAMPLES)
    return (words % np.uint64(max(1, size))).astype(np.int64)


def sketch(case: str, key: Key, array: np.ndarray) -> np.ndarray:
    """Sixteen signed sums of a tensor's elements, each element in one of them.

    Byte ``i`` of the case's and tensor's own random words sends element ``i`` to bucket ``byte mod 16``, with a minus
    where bit 4 is set. For any error ``e`` the sum of the squares of ``sketch(e)`` is on average the sum of the squares
    of ``e``.

    Example:
        >>> sketch("resnet_18-eval", ("activation", "fc"), np.ones(4)).sum() in (-4, -2, 0, 2, 4)
        True
    """
    flat = np.asarray(array, np.float64, order="C").reshape(-1)
    words = seeded_words(0, f"golden/{case}/{'/'.join(key)}/sketch", -(-flat.size // 8))
    places = words.astype("<u8", copy=False).view(np.uint8)[: flat.size] & np.uint8(2 * BUCKETS - 1)
    sums = np.bincount(places, weights=flat, minlength=2 * BUCKETS)
    found: np.ndarray = sums[:BUCKETS] - sums[BUCKETS:]
    return found


def sample(case: str, key: Key, array: np.ndarray) -> np.ndarray:
    """The elements at the sampled positions, float64."""
    if array.size == 0:
        return np.zeros(SAMPLES)
    flat = array.reshape(-1) if array.flags.c_contiguous else None
    positions = sample_positions(case, key, array.size)
    found = flat[positions] if flat is not None else array[np.unravel_index(positions, array.shape)]
    return found.astype(np.float64)


def encode(values: np.ndarray) -> np.ndarray:
    """Positive numbers as bytes: ``2 ** ((code - 128) / 8)``, rounded up.

    Example:
        >>> decode(encode(np.array([1.0, 0.9]))).tolist()
        [1.0, 0.9170040432046712]
    """
    with np.errstate(divide="ignore"):
        codes = np.ceil(GRID * np.log2(values) - 1e-9) + _CODE_ZERO
    return np.clip(codes, 0, 255).astype(np.uint8)


def decode(codes: np.ndarray) -> np.ndarray:
    """What `encode` wrote."""
    return np.exp2((codes.astype(np.float64) - _CODE_ZERO) / GRID)


def on_grid(value: float) -> float:
    """A budget, rounded up to the grid.

    Example:
        >>> on_grid(0.9), on_grid(0.0)
        (0.9170040432046712, 0.0)
    """
    return 2.0 ** (math.ceil(GRID * math.log2(value) - 1e-9) / GRID) if 0 < value < math.inf else value


def stored_case(case: Case, directory: Path | None) -> Case:
    """The case, of a model of somebody's own with the weights and the input that are stored with its golden."""
    own = case.model.weights is not None and case.weights is None and case.source == SEEDED
    if directory is None or not own or case.name not in golden_names(directory):
        return case
    weights, given = (directory / f"{case.name}.{suffix}" for suffix in SUFFIXES[2:])
    return replace(case, source=given, weights=weights)


def stored_input(name: str, directory: Path) -> tuple[tuple[int, ...] | None, int]:
    """The shape of the input of such a golden, and how many tokens there are; nothing where there is none."""
    if name not in golden_names(directory):
        return None, 0
    network = parse_json(_read(directory, f"{name}.json", read_manifest(directory)), name)["case"]["network"]
    return tuple(network["shape"]), network["tokens"]


# -- one golden -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Golden:
    """The stored truth of one case.

    Attributes:
        case: what was run.
        law: the version of the arithmetic.
        tensors: of each tensor, kind, name, shape and digests, in the order of execution.
        amplification: by kind, the median and the largest float32 budget in units of the unit roundoff.
        tables: what ``NAME.safetensors`` holds.
        weights: the `state_digest` of the case's weights.
        two_sided: the layer and the share of `oracle.truth.sides.least_two_sided`.

    Example:
        >>> golden = Golden.load("narrow_basic-train")  # doctest: +SKIP
        >>> golden.keys()[0], golden.shape(golden.keys()[0])  # doctest: +SKIP
        (('activation', 'stem.0'), (3, 4, 36, 36))
    """

    case: Case
    law: int
    tensors: Sequence[Mapping[str, Any]]
    amplification: Mapping[str, Any]
    tables: Mapping[str, np.ndarray] = field(repr=False)
    weights: str = ""
    two_sided: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The case's."""
        return self.case.name

    @cached_property
    def _places(self) -> dict[Key, int]:
        return {(each["kind"], each["name"]): place for place, each in enumerate(self.tensors)}

    @cached_property
    def _channel_starts(self) -> list[int]:
        starts = [0]
        for key in self:
            divided = channels(key[0], self.shape(key))
            starts.append(starts[-1] + (0 if divided is None else divided[1]))
        return starts

    def keys(self) -> list[Key]:
        """Every tensor, in the order of execution."""
        return list(self._places)

    def __iter__(self) -> Iterator[Key]:
        return iter(self._places)

    def shape(self, key: Key) -> tuple[int, ...]:
        """A tensor's shape."""
        return tuple(self.tensors[self._places[key]]["shape"])

    def digest(self, key: Key, precision: str = "float32") -> str:
        """The digest of what lucid computes in float32, or in float64, the truth."""
        found: str = self.tensors[self._places[key]][precision]
        return found

    def samples(self, key: Key) -> tuple[np.ndarray, np.ndarray]:
        """The sampled flat positions and the truth's values there."""
        positions = sample_positions(self.name, key, math.prod(self.shape(key)))
        return positions, self.tables["samples"][self._places[key]]

    def projections(self, key: Key) -> np.ndarray:
        """The truth's sketch."""
        found: np.ndarray = self.tables["projections"][self._places[key]]
        return found

    def norm(self, key: Key) -> float:
        """The truth's root mean square."""
        return float(self.tables["norm"][self._places[key]])

    def budget(self, key: Key, precision: Precision) -> Budget:
        """How far a healthy subject of that precision may be in a whole run."""
        if precision == "float64":
            return in_float64(key, self.budget(key, "float32"))
        place = self._places[key]
        rms, largest = map(float, self.tables["budget"][place, STORED.index(precision)])
        codes = self.tables["channel"][self._channel_starts[place] : self._channel_starts[place + 1]]
        return Budget(rms, largest, decode(codes) * rms if codes.size else None)

    def full(self, key: Key) -> np.ndarray | None:
        """The truth whole, in the two narrow cases."""
        return self.tables.get(f"full/{'/'.join(key)}")

    @classmethod
    def load(cls, name: str, directory: Path | None = None, case: Case | None = None) -> Golden:
        """Read and verify a golden.

        Args:
            name: of it.
            directory: where it is, if not in the package.
            case: what it is of, where that is no standard case.

        Raises:
            GoldenError: there is none of that name, or it is damaged, or of another law.
        """
        directory = golden_directory() if directory is None else directory
        manifest = read_manifest(directory)
        if name not in manifest["goldens"]:
            known = ", ".join(manifest["goldens"])
            raise GoldenError(f"golden: got {name!r}; there are {known or 'none'} in {directory}")
        description = _read(directory, f"{name}.json", manifest)
        tables = _read(directory, f"{name}.safetensors", manifest)
        if case is not None:
            for suffix in SUFFIXES[2:]:
                _read(directory, f"{name}.{suffix}", manifest)
        return decode_golden(name, description, tables, directory, case)


def decode_golden(name: str, description: bytes, tables: bytes, where: Path, own: Case | None = None) -> Golden:
    """A golden from the bytes of its two files."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        read = json.loads(description)
        if read["format"] != FORMAT:
            raise GoldenError(f"{where / name}.json: its format is {read['format']!r}, not {FORMAT!r}")
        _require_law(read["law"], where / f"{name}.json")
        case = _same_case(read["case"], own, name, where / f"{name}.json")
        golden = Golden(
            case, read["law"], read["tensors"], read["amplification"], load(tables), read["weights"], read["two_sided"]
        )
        _require_whole(golden, where / f"{name}.safetensors")
        _require_meaning(golden, where / f"{name}.safetensors")
    except GoldenError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError, SafetensorError) as error:
        raise GoldenError(f"{where / name}: not a sound golden: {type(error).__name__}: {error}") from None
    return golden


def _require_law(law: object, file: Path) -> None:
    if law != LAW:
        raise GoldenError(
            f"{file}: was made under version {law} of the law; this is version {LAW}: make the goldens again with "
            "tools/make_golden.py"
        )


def _same_case(stated: Mapping[str, Any], own: Case | None, name: str, file: Path) -> Case:
    """The case that is run under that name, where every field of what a golden tells is its own; of a model of
    somebody's own, but for where the input lies.

    Nothing is made of what was told: an architecture may be told that no machine has memory for.
    """
    standard = golden_cases().get(name) if own is None else own
    if standard is None:
        raise GoldenError(f"{file}: {name} is no standard case; there are {', '.join(golden_cases())}")
    for part, wanted in describe_case(standard).items():
        if own is not None and part == "source":
            continue
        if stated[part] != json.loads(json.dumps(wanted)):
            raise GoldenError(f"{file}: the case's {part} is {stated[part]!r} where {name} runs with {wanted!r}")
    return standard


def _require_whole(golden: Golden, file: Path) -> None:
    """Names, shapes and digests are such as the case has, and every table has a row for each tensor."""
    count = len(golden.tensors)
    if len(golden.weights) != 64:
        raise GoldenError(f"{file}: its weights have no digest")
    if golden.case.model.weights is None:
        _require_two_sided(golden.name, golden.two_sided["layer"], golden.two_sided["share"], file)
    if len(golden.keys()) != count:
        raise GoldenError(f"{file}: a tensor is there twice")
    for key in golden:
        if key[0] not in KINDS or not all(_is_digest(golden.digest(key, kind)) for kind in ("float32", "float64")):
            raise GoldenError(f"{file}: {key[0]} {key[1]!r} has no digest of 64 hexadecimal digits, or no known kind")
    _require_shapes(golden, file)
    wanted = {
        "norm": (count,),
        "samples": (count, SAMPLES),
        "projections": (count, BUCKETS),
        "budget": (count, len(STORED), 2),
        "channel": (golden._channel_starts[-1],),
    }
    for table, shape in wanted.items():
        if table not in golden.tables or golden.tables[table].shape != shape:
            found = golden.tables[table].shape if table in golden.tables else "nothing"
            raise GoldenError(f"{file}: {table} is {found} where the description needs {shape}")
        dtype = golden.tables[table].dtype
        if dtype != _DTYPES[table]:
            raise GoldenError(f"{file}: {table} is stored as {dtype.name} where a golden has {_DTYPES[table]}")


def _require_two_sided(name: str, layer: str, share: float, file: Path | None = None) -> None:
    """A case whose ReLUs decide nothing within a channel is no instrument."""
    if not LEAST_TWO_SIDED <= share <= 1:
        raise GoldenError(
            f"{file or name}: at the ReLU of {layer}, in one image, {share:.0%} of the channels hold both signs; "
            f"it must be at least {LEAST_TWO_SIDED:.0%}"
        )


def state_digest(state: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over a line ``NAME DIGEST`` for each tensor of a state, in the order of the names.

    Example:
        >>> state_digest({"a": np.zeros(1)}) == state_digest({"a": np.zeros(2)})
        False
    """
    lines = "".join(f"{name} {digest(state[name])}\n" for name in sorted(state))
    return hashlib.sha256(lines.encode()).hexdigest()


def require_weights(golden: Golden) -> None:
    """Make the case's weights again; they are those that the golden was made with.

    Raises:
        GoldenError: they are not.
    """
    found = state_digest(golden.case.state)
    if found != golden.weights:
        raise GoldenError(
            f"{golden.name}: the weights made here are not the golden's (digest {found[:12]}, not "
            f"{golden.weights[:12]}): lucid.models.seeded, NumPy's Philox or this machine is faulty, or the golden is "
            "of another generator"
        )


_DTYPES = {"norm": "float64", "samples": "float64", "projections": "float64", "budget": "float32", "channel": "uint8"}


def _is_digest(text: object) -> bool:
    return isinstance(text, str) and re.fullmatch("[0-9a-f]{64}", text) is not None


def _require_shapes(golden: Golden, file: Path) -> None:
    """The tensors are those that the case has, in name, shape and order."""
    wanted = shapes_of(golden.case)
    for key in golden:
        if key not in wanted:
            raise GoldenError(f"{file}: holds {key[1]!r}, which the model has not")
        if golden.shape(key) != wanted[key]:
            raise GoldenError(f"{file}: {key[0]} {key[1]!r} is of shape {golden.shape(key)} where it has {wanted[key]}")
    for key in wanted:
        if key not in golden._places:
            raise GoldenError(f"{file}: lacks the {key[0]} {key[1]!r}")
    if golden.keys() != list(wanted):
        raise GoldenError(f"{file}: its tensors are not in the order of execution")


# How far a sketch's estimate of a tensor's size is from it, at most: a sum of sixteen squares scatters, but what is
# forged is off by orders of magnitude.
_LEAST_SKETCH, _LARGEST_SKETCH = 1e-4, 16.0
# No subject rounds less than once: a quarter of the unit roundoff. What TF32 only moves is rounded as in float32.
_LEAST = {"float32": 2.0**-26, "tf32": 2.0**-26, "bfloat16": 2.0**-11, "float16": 2.0**-14}
# By what a budget is larger than float32's, at least, in tensors in which little cancels; measured: 0.15, 54 and 3.7.
_COARSER = {"float32": 1.0, "tf32": 0.05, "bfloat16": 4.0, "float16": 0.5}
_DIGITS = 0.06  # of an amplification two digits are stored


def _require_meaning(golden: Golden, file: Path) -> None:
    """The numbers can be what they are called. What is not made again here can still be forged in all places alike;
    but then the recomputed truth has other digests."""
    keys = golden.keys()
    norm, budget = golden.tables["norm"], golden.tables["budget"].astype(np.float64)

    def require(sound: np.ndarray, what: str) -> None:
        wrong = ~np.asarray(sound).reshape(len(keys), -1).all(axis=1)
        if wrong.any():
            kind, name = keys[int(wrong.argmax())]
            raise GoldenError(f"{file}: {kind} {name!r}: {what}")

    sizes = np.array([float(max(1, math.prod(golden.shape(key)))) for key in keys])
    samples, sums = golden.tables["samples"], golden.tables["projections"]
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        require(np.isfinite(norm) & (norm >= 0), "its norm is not a finite number of at least 0")
        require(np.isfinite(samples), "a sample is not finite")
        require(np.isfinite(sums), "a projection is not finite")
        most = norm * np.sqrt(sizes) * (1 + 1e-9)
        require(np.abs(samples) <= most[:, None], "a sample is larger than its norm allows")
        ratio = np.where(norm > 0, np.square(sums).sum(axis=1) / (sizes * np.square(norm)), 1.0)
        sketched = (ratio >= _LEAST_SKETCH) & (ratio <= _LARGEST_SKETCH) & ((norm > 0) | (sums == 0).all(axis=1))
        require(sketched, "its projections do not fit its norm")
        require(np.isfinite(budget) & (budget >= 0), "a budget is not a finite number of at least 0")
        some = norm > 0
        require(~some | (budget > 0).all(axis=(1, 2)), "a budget is 0, though the tensor is not")
        finest = budget[:, :, 0] >= np.array([_LEAST[precision] for precision in STORED])
        require(~some[:, None] | finest, "a budget is less than one rounding")
        require(
            ~some[:, None] | (budget[:, :, 1] >= budget[:, :, 0] * (1 - 1e-6)), "a largest deviation is below its mean"
        )
        judged = some & (budget[:, 0, 0] < _JUDGED)
        coarser = budget[:, :, 0] >= budget[:, :1, 0] * np.array([_COARSER[precision] for precision in STORED])
        require(~judged[:, None] | coarser, "its budget of a lower precision is far below that of float32")
    for place, key in enumerate(keys):
        _require_samples(golden, key, samples[place], require)
        codes = golden.tables["channel"][golden._channel_starts[place] : golden._channel_starts[place + 1]]
        if codes.size and judged[place] and np.sqrt(np.square(decode(codes)).mean()) > _WIDEST:
            raise GoldenError(f"{file}: {key[0]} {key[1]!r}: the budgets of its channels are far above its own")
    _require_amplification(golden, file)


_JUDGED = 1e-2  # budgets above it belong to what nearly cancels, where one implementation's luck decides
_WIDEST = 1e3


def _require_samples(golden: Golden, key: Key, found: np.ndarray, require: Callable[[np.ndarray, str], None]) -> None:
    """Where two samples are of one position, they are one number; of a scalar, it is all there is."""
    positions = golden.samples(key)[0]
    first = dict(zip(positions.tolist(), found.tolist(), strict=True))
    same = all(first[position] == value for position, value in zip(positions.tolist(), found.tolist(), strict=True))
    whole = math.prod(golden.shape(key)) > 1 or abs(found[0]) == golden.norm(key)
    if not (same and whole):
        rows = np.array([each != key for each in golden])
        require(rows, "its samples contradict each other, or its norm")


def _require_amplification(golden: Golden, file: Path) -> None:
    """What is said of the budgets in sum is what they are."""
    rms = {key: float(golden.tables["budget"][place, 0, 0]) for place, key in enumerate(golden)}
    found = _amplification(golden.keys(), rms)
    stated = golden.amplification
    same = isinstance(stated, Mapping) and set(stated) == set(found)
    for kind in found if same else ():
        for name, number in found[kind].items():
            given = stated[kind].get(name)
            close = isinstance(given, int | float) and (given == number or abs(given - number) <= _DIGITS * number)
            same = same and close
    if not same:
        raise GoldenError(f"{file}: the amplification that its description states is not that of its budgets")


def describe_case(case: Case) -> dict[str, Any]:
    """All of a seeded case's fields, as JSON."""
    return {
        **case.model.record(),
        "mode": case.mode,
        "source": str(case.source),
        "size": case.size,
        "batch": case.batch,
        "seed": case.seed,
    }


def encode_golden(
    case: Case,
    order: Sequence[Key],
    digests: Mapping[str, Mapping[Key, str]],
    truth: Trace,
    budgets: Mapping[str, Mapping[Key, Budget]],
) -> tuple[bytes, bytes]:
    """The bytes of the two files of a golden.

    Args:
        case: what was run.
        order: the tensors in the order of execution.
        digests: by precision (``float32``, ``float64``).
        truth: lucid in float64.
        budgets: by precision.

    Raises:
        GoldenError: at some ReLU too few channels hold both signs.
    """
    from safetensors.numpy import save

    tensors = [
        {"kind": key[0], "name": key[1], "shape": list(truth[key].shape)}
        | {precision: digests[precision][key] for precision in ("float32", "float64")}
        for key in order
    ]
    rows = [[(on_grid(budgets[p][key].rms), on_grid(budgets[p][key].largest)) for p in STORED] for key in order]
    codes = [_channel_codes([budgets[p][key] for p in STORED], key, truth[key].shape) for key in order]
    tables = {
        "norm": np.array([_norm(truth[key]) for key in order]),
        "samples": np.stack([sample(case.name, key, truth[key]) for key in order]),
        "projections": np.stack([sketch(case.name, key, truth[key]) for key in order]),
        "budget": np.array(rows, np.float32),
        "channel": np.concatenate(codes) if codes else np.zeros(0, np.uint8),
    }
    if case.model.stored_whole:
        tables |= {f"full/{'/'.join(key)}": np.asarray(truth[key], order="C") for key in order}
    sides = {name: two_sided_share(truth["activation", name]) for name in rectified(case.graph)}
    layer, share = least_two_sided(sides)
    if case.model.weights is None:
        _require_two_sided(case.name, layer, share)
    description = {
        "format": FORMAT,
        "law": LAW,
        "case": describe_case(case),
        "weights": state_digest(case.state),
        "two_sided": {"layer": layer, "share": share},
        "amplification": amplification(order, budgets["float32"]),
        "tensors": tensors,
    }
    lines = json.dumps({**description, "tensors": []}, indent=1).removesuffix("[]\n}")
    body = ",\n  ".join(json.dumps(tensor) for tensor in tensors)
    return f"{lines}[\n  {body}\n ]\n}}\n".encode(), save(tables, metadata={"format": FORMAT})


def _norm(array: np.ndarray) -> float:
    """The root mean square, the squares added one after the other, so that no library's choice of order shows."""
    squares = np.square(array).reshape(-1)
    total = np.bincount(np.zeros(squares.size, np.intp), weights=squares, minlength=1)[0]
    return math.sqrt(float(total) / max(1, squares.size))


def _channel_codes(budgets: Sequence[Budget], key: Key, shape: tuple[int, ...]) -> np.ndarray:
    """Each channel's budget over the tensor's, the largest of all precisions."""
    if channels(key[0], shape) is None:
        return np.zeros(0, np.uint8)
    shares = [cast(np.ndarray, budget.channel) / on_grid(budget.rms) for budget in budgets]
    return encode(np.maximum(np.max(shares, axis=0), 2.0**-15))


def amplification(order: Sequence[Key], budgets: Mapping[Key, Budget]) -> dict[str, dict[str, float]]:
    """By kind: the median and the largest budget, in float32 unit roundoffs. It is what the case makes of rounding.

    A tensor whose budget is above its own size has a truth that is zero but for float64's rounding (a bias that the
    next normalisation takes away has no gradient): it is counted as vanishing and left out.
    """
    return _amplification(order, {key: on_grid(budgets[key].rms) for key in order})


def _amplification(order: Sequence[Key], rms: Mapping[Key, float]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for kind in dict.fromkeys(kind for kind, _ in order):
        values = [rms[key] for key in order if key[0] == kind]
        sound = [value * 2.0**24 for value in values if value < 1.0]
        found[kind] = {
            "median": float(f"{np.median(sound):.2g}") if sound else math.inf,
            "largest": float(f"{max(sound, default=math.inf):.2g}"),
            "vanishing": len(values) - len(sound),
        }
    return found


# -- the manifest -----------------------------------------------------------------------------------------------------


def read_manifest(directory: Path) -> dict[str, Any]:
    """The manifest.

    Raises:
        GoldenError: it is missing or damaged, or of another law.
    """
    path = directory / MANIFEST
    try:
        with open_regular(path) as file:
            manifest: dict[str, Any] = json.load(file)
        if manifest["format"] != FORMAT:
            raise GoldenError(f"{path}: its format is {manifest['format']!r}, not {FORMAT!r}")
        _require_law(manifest["law"], path)
        if manifest["seal"] != seal(manifest):
            raise GoldenError(f"{path}: its seal is broken: it was changed after it was made")
        _require_entries(manifest, path)
    except GoldenError:
        raise
    except OSError as error:
        raise GoldenError(f"golden: there are no goldens: cannot read {path}: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise GoldenError(f"{path}: not a sound manifest: {type(error).__name__}: {error}") from None
    return manifest


def _require_entries(manifest: Mapping[str, Any], path: Path) -> None:
    for name, entry in manifest["files"].items():
        size = entry["size"]
        if not _FILE_NAME.fullmatch(name) or not _is_digest(entry["sha256"]) or type(size) is not int or size < 0:
            raise GoldenError(f"{path}: its entry of the file {name!r} is not sound")
    for name, entry in manifest["goldens"].items():
        error = entry["largest_error"]
        counted = type(entry["tensors"]) is int and entry["tensors"] > 0
        if not _FILE_NAME.fullmatch(name) or not counted or not isinstance(error, int | float) or not 0 <= error < 1:
            raise GoldenError(f"{path}: its entry of the golden {name!r} is not sound")


_FILE_NAME = re.compile(r"[A-Za-z0-9_]+([.-][A-Za-z0-9_]+)*")


def seal(manifest: Mapping[str, Any]) -> str:
    """The SHA-256 of everything else in the manifest."""
    rest = {name: value for name, value in manifest.items() if name != "seal"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _read(directory: Path, name: str, manifest: Mapping[str, Any]) -> bytes:
    path = directory / name
    entry = manifest["files"].get(name)
    if entry is None:
        raise GoldenError(f"{directory / MANIFEST}: has no entry for {name}")
    try:
        with open_regular(path) as file:
            content = file.read(entry["size"] + 1)  # one that has grown is not read to its end
            size = max(len(content), os.fstat(file.fileno()).st_size)
    except OSError as error:
        raise GoldenError(f"golden: cannot read {path}: {error.strerror or error}") from None
    if size != entry["size"] or len(content) != size:
        raise GoldenError(f"{path}: is {size} bytes long where the manifest says {entry['size']}")
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise GoldenError(f"{path}: its SHA-256 is not the manifest's: a byte of it was changed")
    return content


def golden_names(directory: Path | None = None) -> list[str]:
    """The goldens that the manifest lists."""
    return list(read_manifest(golden_directory() if directory is None else directory)["goldens"])


def verify(directory: Path | None = None) -> list[str]:
    """Everything that is wrong with the goldens of a directory, a sentence each; nothing if all is sound."""
    directory = golden_directory() if directory is None else directory
    try:
        manifest = read_manifest(directory)
    except GoldenError as error:
        return [str(error)]
    problems = [] if manifest["goldens"] else [f"{directory / MANIFEST}: lists no golden"]
    for name, entry in manifest["goldens"].items():
        try:
            if entry.get("own"):  # whose model is needed for more
                for suffix in SUFFIXES:
                    _read(directory, f"{name}.{suffix}", manifest)
                continue
            golden = Golden.load(name, directory)
            problems += [f"{directory / name}.safetensors: {problem}" for problem in _problems_of_whole(golden)]
            if entry["tensors"] != len(golden.tensors):
                stated = f"says {entry['tensors']} tensors of {name}, which has {len(golden.tensors)}"
                problems.append(f"{directory / MANIFEST}: {stated}")
        except GoldenError as error:
            problems.append(str(error))
    listed = set(manifest["files"])
    found = {path.name for path in directory.glob("*") if path.suffix in (".json", ".safetensors", ".npy")} - {MANIFEST}
    problems += [f"{directory / name}: is not in the manifest" for name in sorted(found - listed)]
    problems += [f"{directory / name}: is missing" for name in sorted(listed - found)]
    return problems


def _problems_of_whole(golden: Golden) -> list[str]:
    """Where a golden holds its tensors whole, everything else about them can be made again."""
    known = {f"full/{'/'.join(key)}" for key in golden}
    strange = sorted(set(golden.tables) - known - set(_DTYPES))
    problems = [f"holds {strange[0]!r}, which is no table of a golden"] if strange else []
    whole = {key: golden.full(key) for key in golden}
    if all(array is None for array in whole.values()):
        return problems
    for key, array in whole.items():
        stated = f"{key[0]} {key[1]!r}"
        if array is None or array.shape != golden.shape(key) or array.dtype != np.float64:
            problems.append(f"{stated} is not there whole, as the others are")
        elif digest(array) != golden.digest(key, "float64"):
            problems.append(f"{stated} has another digest than the description's")
        elif (
            _norm(array) != golden.norm(key)
            or not np.array_equal(sample(golden.name, key, array), golden.samples(key)[1])
            or not np.array_equal(sketch(golden.name, key, array), golden.projections(key))
        ):
            problems.append(f"the norm, samples or projections of {stated} are not those of the tensor")
    return problems[:1]
