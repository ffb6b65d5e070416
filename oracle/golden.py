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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np

from oracle.architecture import ARCHITECTURES, NARROW, Architecture
from oracle.case import Case, seeded_words, standard_case
from oracle.compare import Budget, Precision, channels
from oracle.errors import UsageError
from oracle.trace import KINDS, Key, Trace

FORMAT = "lucid-oracle golden 1"
MANIFEST = "manifest.json"
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
    from importlib.util import find_spec

    spec = find_spec("golden")  # a directory of data, without modules
    places = [Path(place) for place in (spec.submodule_search_locations or ())] if spec is not None else []
    return next(
        (place for place in places if (place / "manifest.json").is_file()), Path(__file__).parent.parent / "golden"
    )


def golden_cases() -> dict[str, Case]:
    """Every case that a golden is made of, by name.

    Example:
        >>> len(golden_cases())
        24
    """
    architectures = (ARCHITECTURES | NARROW).values()
    cases = [standard_case(architecture, mode) for architecture in architectures for mode in ("eval", "train")]
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

    Example:
        >>> golden = Golden.load("narrow_basic-train")  # doctest: +SKIP
        >>> golden.keys()[0], golden.shape(golden.keys()[0])  # doctest: +SKIP
        (('activation', 'stem.0'), (2, 4, 32, 32))
    """

    case: Case
    law: int
    tensors: Sequence[Mapping[str, Any]]
    amplification: Mapping[str, Any]
    tables: Mapping[str, np.ndarray] = field(repr=False)

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
        from oracle.budget import in_float64

        if precision == "float64":
            return in_float64(self.budget(key, "float32"))
        place = self._places[key]
        rms, largest = map(float, self.tables["budget"][place, STORED.index(precision)])
        codes = self.tables["channel"][self._channel_starts[place] : self._channel_starts[place + 1]]
        return Budget(rms, largest, decode(codes) * rms if codes.size else None)

    def full(self, key: Key) -> np.ndarray | None:
        """The truth whole, in the two narrow cases."""
        return self.tables.get(f"full/{'/'.join(key)}")

    @classmethod
    def load(cls, name: str, directory: Path | None = None) -> Golden:
        """Read and verify a golden.

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
        return decode_golden(name, description, tables, directory)


def decode_golden(name: str, description: bytes, tables: bytes, where: Path) -> Golden:
    """A golden from the bytes of its two files."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        read = json.loads(description)
        if read["format"] != FORMAT:
            raise GoldenError(f"{where / name}.json: its format is {read['format']!r}, not {FORMAT!r}")
        _require_law(read["law"], where / f"{name}.json")
        golden = Golden(_case_from(read["case"]), read["law"], read["tensors"], read["amplification"], load(tables))
        _require_whole(golden, where / f"{name}.safetensors")
    except (ValueError, KeyError, TypeError, SafetensorError) as error:
        if isinstance(error, GoldenError):
            raise
        raise GoldenError(f"{where / name}: not a sound golden: {type(error).__name__}: {error}") from None
    if golden.name != name:
        raise GoldenError(f"{where / name}.json: holds the case {golden.name}")
    return golden


def _require_law(law: object, file: Path) -> None:
    if law != LAW:
        raise GoldenError(
            f"{file}: was made under version {law} of the law; this is version {LAW}: make the goldens again with "
            "tools/make_golden.py"
        )


def _require_whole(golden: Golden, file: Path) -> None:
    count = len(golden.tensors)
    if len(golden.keys()) != count:
        raise GoldenError(f"{file}: a tensor is there twice")
    for key in golden:
        if key[0] not in KINDS or any(len(golden.digest(key, kind)) != 64 for kind in ("float32", "float64")):
            raise GoldenError(f"{file}: {key[0]} {key[1]!r} has no digest, or is of no known kind")
    _require_names(golden, file)
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


def _require_names(golden: Golden, file: Path) -> None:
    """The tensors are those that the case has, in name."""
    from oracle.layer import layers_of

    layers = [layer.name for layer in layers_of(golden.case.architecture) if layer.op != "loss"]
    owners = {name.rsplit(".", 1)[0] if kind in ("parameter_gradient", "statistic") else name for kind, name in golden}
    strange = sorted(owners - {*layers, "loss"})
    if strange:
        raise GoldenError(f"{file}: holds {strange[0]!r}, which the model has not")
    for kind in ("activation", "activation_gradient") if golden.case.mode == "train" else ("activation",):
        lacking = [name for name in layers if (kind, name) not in golden._places]
        if lacking:
            raise GoldenError(f"{file}: lacks the {kind} {lacking[0]!r}")


def describe_case(case: Case) -> dict[str, Any]:
    """All of a seeded case's fields, as JSON."""
    return {
        "architecture": asdict(case.architecture),
        "mode": case.mode,
        "source": str(case.source),
        "size": case.size,
        "batch": case.batch,
        "seed": case.seed,
    }


def _case_from(read: Mapping[str, Any]) -> Case:
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in read["architecture"].items()
    }
    architecture = Architecture(**fields)
    known = ARCHITECTURES.get(architecture.name, architecture)
    return Case(
        known if known == architecture else architecture,
        read["mode"], read["source"], read["size"], read["batch"], read["seed"],
    )  # fmt: skip


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
    if case.architecture.name in NARROW:
        tables |= {f"full/{'/'.join(key)}": np.asarray(truth[key], order="C") for key in order}
    description = {
        "format": FORMAT,
        "law": LAW,
        "case": describe_case(case),
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
    found: dict[str, dict[str, float]] = {}
    for kind in dict.fromkeys(kind for kind, _ in order):
        values = [on_grid(budgets[key].rms) for key in order if key[0] == kind]
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
        manifest: dict[str, Any] = json.loads(path.read_bytes())
        if manifest["format"] != FORMAT:
            raise GoldenError(f"{path}: its format is {manifest['format']!r}, not {FORMAT!r}")
        _require_law(manifest["law"], path)
        if manifest["seal"] != seal(manifest):
            raise GoldenError(f"{path}: its seal is broken: it was changed after it was made")
    except OSError as error:
        raise GoldenError(f"golden: cannot read {path}: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, GoldenError):
            raise
        raise GoldenError(f"{path}: not a sound manifest: {type(error).__name__}: {error}") from None
    return manifest


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
        content = path.read_bytes()
    except OSError as error:
        raise GoldenError(f"golden: cannot read {path}: {error.strerror or error}") from None
    if len(content) != entry["size"]:
        raise GoldenError(f"{path}: is {len(content)} bytes long where the manifest says {entry['size']}")
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
    for name in manifest["goldens"]:
        try:
            Golden.load(name, directory)
        except GoldenError as error:
            problems.append(str(error))
    listed = set(manifest["files"])
    found = {path.name for path in directory.glob("*") if path.suffix in (".json", ".safetensors")} - {MANIFEST}
    problems += [f"{directory / name}: is not in the manifest" for name in sorted(found - listed)]
    problems += [f"{directory / name}: is missing" for name in sorted(listed - found)]
    return problems
