"""Names that other programs give to the same tensors, read as the oracle's.

Four things are recognised without being told, and every one of them is said in a sentence:

- wrappers: ``module.`` of DistributedDataParallel, ``_orig_mod.`` of torch.compile and the like, at any depth;
- one prefix that all names share (``model.``, ``state_dict.``, ``backbone.``); two such prefixes are refused;
- the layout of programs that many follow (`oracle.graph.model.Layout`): other names, a module that runs several times;
- a container (``layer1``) for the last of its layers, whose output it hands on.

Anything else takes a file of rules (`Rules`). Nothing is guessed: where two names would be one tensor, or a name is
left over once something was assumed, the reading is refused and lists them.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from oracle.errors import UsageError
from oracle.files import read_bytes
from oracle.graph.model import Model
from oracle.graph.state import State
from oracle.operations import is_loss
from oracle.trace import KINDS

WRAPPERS = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
_KINDS = tuple(f"{kind}/" for kind in KINDS)
_LISTED = 6  # names that a sentence lists


def listed(names: Iterable[str], limit: int = _LISTED) -> str:
    """Names for a sentence, the first few of many.

    Example:
        >>> listed(["a", "b", "c"], 2)
        'a, b and 1 more'
    """
    found = list(names)
    more = f" and {len(found) - limit} more" if len(found) > limit else ""
    return ", ".join(found[:limit]) + more


# -- the file of rules ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rules:
    """What a file of ``--names`` says: an object of JSON or TOML, their name to ours. The first rule that fits counts.

    - ``"conv1" = "stem.0"``: the name itself, and what lies below it (``conv1.weight`` is ``stem.0.weight``);
    - ``"encoder." = ""``, a key that ends in a dot (or a slash): the beginning of a name;
    - ``"^stage(\\\\d)_unit(\\\\d)" = "layer\\\\1.\\\\2"``, a key that begins with ``^``: a regular expression for the
      beginning of a name;
    - the value ``false``: the tensor is left out.

    Rules are for the name behind a kind (``conv1`` of ``activation/conv1``); one whose key has the kind is for all of
    it. One whose value alone has a kind is for names without one: ``"^" = "activation/"`` reads them all as outputs.
    Nested objects are joined by dots. What a rule returns is read on as any other name.

    Example:
        >>> rules = Rules({"conv1": "stem.0", "encoder.": "", "aux": False})
        >>> rules.apply("conv1.weight"), rules.apply("encoder.fc"), rules.apply("fc"), rules.apply("aux.fc")
        ('stem.0.weight', 'fc', 'fc', None)
    """

    rules: Mapping[str, Any] = field(default_factory=dict)
    origin: str = ""

    @classmethod
    def read(cls, path: Path) -> Rules:
        """Read a file of rules: JSON where its name ends so, otherwise TOML.

        Raises:
            UsageError: it cannot be read, or a rule is none.
        """
        try:
            text = read_bytes(path, "--names").decode()
            found = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
        except UsageError:
            raise
        except (ValueError, RecursionError) as error:
            kind = "JSON" if path.suffix == ".json" else "TOML"
            raise UsageError(f"--names: {path} is not {kind}: {error or type(error).__name__}") from None
        if not isinstance(found, dict) or not found:
            kind = "nothing" if isinstance(found, dict) else type(found).__name__
            raise UsageError(f"--names: {path} holds {kind}; may be an object of names, theirs to ours")
        rules = _flattened(found)
        for theirs, ours in rules.items():
            if not theirs or not (isinstance(ours, str) or ours is False):
                raise UsageError(f"--names: {path}: {theirs!r} is {ours!r}; may be a name, or false to leave it out")
            if theirs.startswith("^"):
                try:
                    re.compile(f"(?:{theirs})|").sub(str(ours or ""), "")  # the replacement's groups are looked at too
                except (re.error, IndexError) as error:
                    raise UsageError(f"--names: {path}: {theirs!r} is no regular expression: {error}") from None
        return cls(rules, path.name)

    def apply(self, name: str) -> str | None:
        """What the first rule that fits makes of ``name``; itself where none fits, ``None`` to leave it out."""
        found = self._match(name, [theirs for theirs in self.rules if not self._is_for_files(theirs)])
        return name if found is None else found[0]

    def fits(self, name: str) -> bool:
        """Whether a rule is for this name."""
        return self.apply(name) != name

    def file_name(self, text: str) -> str | None:
        """What a tensor in a file of a trace is called, kind and all; ``None`` to leave it out.

        Example:
            >>> Rules({"^": "activation/"}).file_name("fc"), Rules({"^": "activation/"}).file_name("loss")
            ('activation/fc', 'loss')
        """
        has_kind = text == "loss" or text.startswith(_KINDS)
        fitting = [
            theirs for theirs in self.rules if self._is_for_files(theirs) and (_has_kind(theirs) or not has_kind)
        ]
        found = self._match(text, fitting)
        return text if found is None else found[0]

    def _is_for_files(self, theirs: str) -> bool:
        """Whether a rule is for names with their kind, or gives a kind to those that have none."""
        return _has_kind(theirs) or str(self.rules[theirs]).startswith(("loss", *_KINDS))

    def _match(self, name: str, rules: Iterable[str]) -> tuple[str | None] | None:
        for theirs in rules:
            ours = self.rules[theirs]
            made = _applied(theirs, ours or "", name)
            if made is not None:
                return (None if ours is False else made,)
        return None


def _has_kind(theirs: str) -> bool:
    return any(kind in theirs for kind in _KINDS)


def _applied(theirs: str, ours: str, name: str) -> str | None:
    """What one rule makes of a name; ``None`` where it does not fit."""
    if theirs.startswith("^"):
        found = re.match(theirs, name)
        return None if found is None else found.expand(ours) + name[found.end() :]
    if name == theirs:
        return ours
    if theirs.endswith((".", "/")):
        return ours + name.removeprefix(theirs) if name.startswith(theirs) else None
    return f"{ours}{name.removeprefix(theirs)}" if name.startswith(f"{theirs}.") else None


def _flattened(found: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    rules: dict[str, Any] = {}
    for name, value in found.items():
        if isinstance(value, dict):
            rules |= _flattened(value, f"{before}{name}.")
        else:
            rules[f"{before}{name}"] = value
    return rules


# -- reading names ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reading:
    """What a set of names was read as.

    Attributes:
        names: theirs to ours, of all that were understood.
        shared: theirs, of a module that runs several times, to the layers that it may be.
        aliases: theirs, of a container, to the layer whose output it hands on.
        left_out: by a rule, or because no layer is judged there.
        unknown: what could not be understood.
        assumed: sentences that say what was assumed; none where every name is the oracle's.
    """

    names: Mapping[str, str]
    shared: Mapping[str, tuple[str, ...]]
    aliases: Mapping[str, str]
    left_out: tuple[str, ...]
    unknown: tuple[str, ...]
    assumed: tuple[str, ...]


class Vocabulary:
    """The names of a model, of its layers and of its parameters and statistics, and what others call them.

    Example:
        >>> from oracle.case.zoo import find_model
        >>> reading = Vocabulary(find_model("narrow_basic")).read(["module.conv1.weight", "module.fc.bias"])
        >>> dict(reading.names)
        {'module.conv1.weight': 'stem.0.weight', 'module.fc.bias': 'fc.bias'}
        >>> for sentence in reading.assumed:
        ...     print(sentence)
        names read without 'module.'
        names read as torchvision's: conv1 is stem.0
    """

    def __init__(self, model: Model) -> None:
        graph, self.layout = model.graph(), model.layout
        self.modules = [node.name for node in graph.nodes if not is_loss(node)]
        self.known = {*(node.name for node in graph.nodes), *graph.state}
        self.containers = _containers(self.modules)

    def read(self, theirs: Iterable[str], rules: Rules | None = None) -> Reading:
        """Read names.

        Raises:
            UsageError: two names would be one tensor, or two prefixes fit.
        """
        rules = rules or Rules()
        given = list(dict.fromkeys(theirs))
        texts = {name: rules.apply(name) for name in given}
        bare = {name: _unwrapped(text) for name, text in texts.items() if text is not None}
        prefix = self._prefix([text for text in bare.values() if text != "loss"])
        short = {name: self._short(text, prefix) for name, text in bare.items()}
        names: dict[str, str] = {}
        shared: dict[str, tuple[str, ...]] = {}
        aliases: dict[str, str] = {}
        nowhere: list[str] = []
        unknown: list[str] = []
        numbered = {found[1] for found in map(self.layout.shared.fullmatch, short.values()) if found and found[2]}
        for name, text in short.items():
            ours = self._ours(text)
            shared_run = self.layout.shared.fullmatch(text)
            if ours is not None:
                names[name] = ours
            elif shared_run is not None and shared_run[1] in self.layout.runs:
                runs = self.layout.runs[shared_run[1]]
                run = int(shared_run[2] or 0)
                if run < len(runs) and shared_run[1] in numbered:
                    names[name] = runs[run]
                elif run == 0:
                    shared[name] = runs
                else:
                    unknown.append(name)
            elif text in ("", prefix[:-1]):
                aliases[name] = self.modules[-1]  # the whole network
            elif text in self.containers:
                aliases[name] = self.containers[text]
            elif self.layout.unobserved.fullmatch(text):
                nowhere.append(name)
            else:
                unknown.append(name)
        self._refuse_doubles(names, aliases)
        assumed = self._assumed(texts, bare, short, prefix, names, rules)
        relus = [
            f"{short[name]} is {ours}" for name, ours in names.items() if self.layout.shared.fullmatch(short[name])
        ]
        if relus:
            numbering = f"the numbered runs of a block's relu read as its ReLUs in their order: {listed(relus, 3)}"
            assumed = (*assumed, numbering)
        left_out = (*(name for name, text in texts.items() if text is None), *nowhere)
        return Reading(names, shared, aliases, left_out, tuple(unknown), assumed)

    def _ours(self, text: str) -> str | None:
        if text in self.known:
            return text
        for theirs, ours in self.layout.aliases.items():
            if text == theirs or text.startswith(f"{theirs}."):
                made = ours + text.removeprefix(theirs)
                return made if made in self.known else None
        return None

    def _place(self, text: str) -> bool:
        """Whether a name means something as it is."""
        shared_run = self.layout.shared.fullmatch(text)
        return (
            self._ours(text) is not None
            or text in self.containers
            or self.layout.unobserved.fullmatch(text) is not None
            or (shared_run is not None and shared_run[1] in self.layout.runs)
        )

    def _prefix(self, texts: Sequence[str]) -> str:
        """The one prefix, with its dot, without which names that mean nothing mean something; empty for none.

        It has to explain more names than are understood without one, and what is itself a part of such a network
        (``layer9.``) is none: a block too many must not be taken for another network's stem.
        """
        found: Counter[str] = Counter()
        example: dict[str, dict[str, str]] = {}
        strange = [text for text in texts if not self._place(text)]
        for text in strange:
            parts = text.split(".")
            for count in range(1, len(parts)):
                if self.layout.part.fullmatch(parts[count - 1]):
                    break
                rest = ".".join(parts[count:])
                if self._place(rest):
                    prefix = ".".join(parts[:count]) + "."
                    found[prefix] += 1
                    example.setdefault(prefix, {})[rest] = text
                    break
        if not found:
            return ""
        (best, most), *others = found.most_common()
        if most <= len(texts) - len(strange):
            return ""
        rivals = [prefix for prefix, count in others if 2 * count >= most and set(example[prefix]) & set(example[best])]
        if rivals:
            both = [best, *rivals]
            raise UsageError(
                f"names: {listed(repr(each) for each in both)} could each be left out, and would name the same tensors "
                f"(such as {next(iter(example[best].values()))}): say which with --names, for example "
                f'{{"{best}": "", "{rivals[0]}": false}}'
            )
        return best

    def _short(self, text: str, prefix: str) -> str:
        rest = text.removeprefix(prefix)
        return rest if prefix and rest != text and not self._place(text) and self._place(rest) else text

    @staticmethod
    def _refuse_doubles(names: Mapping[str, str], aliases: Mapping[str, str]) -> None:
        takers: dict[str, list[str]] = {}
        for theirs, ours in names.items():
            takers.setdefault(ours, []).append(theirs)
        doubles = {ours: both for ours, both in takers.items() if len(both) > 1}
        if doubles:
            sentences = [f"{' and '.join(both)} would both be {ours}" for ours, both in doubles.items()]
            raise UsageError(f"names: {listed(sentences, 3)}: say which is meant with --names")

    def _assumed(
        self,
        texts: Mapping[str, str | None],
        bare: Mapping[str, str],
        short: Mapping[str, str],
        prefix: str,
        names: Mapping[str, str],
        rules: Rules,
    ) -> tuple[str, ...]:
        """What was assumed, in sentences."""
        sentences = []
        ruled = sum(rules.fits(name) for name in texts)
        if ruled:
            sentences.append(f"{ruled} {'name' if ruled == 1 else 'names'} read by {rules.origin or 'rules'}")
        wrapped = [
            part for name, text in bare.items() for part in (texts[name] or "").split(".") if text != texts[name]
        ]
        for wrapper in dict.fromkeys(part for part in wrapped if part in WRAPPERS):
            sentences.append(f"names read without {wrapper + '.'!r}")
        if any(short[name] != bare[name] for name in bare):
            sentences.append(f"names read without {prefix!r}")
        others = {
            theirs: ours
            for name, text in short.items()
            for theirs, ours in self.layout.aliases.items()
            if (text == theirs or text.startswith(f"{theirs}.")) and name in names
        }
        if others:
            pairs = ", ".join(f"{theirs} is {ours}" for theirs, ours in self.layout.aliases.items() if theirs in others)
            sentences.append(f"names read as {self.layout.called}'s: {pairs}")
        return tuple(sentences)


def _unwrapped(text: str) -> str:
    """A path without the segments that wrappers put into it; empty for the network itself.

    Example:
        >>> _unwrapped("module.layer1._orig_mod.0.conv1"), _unwrapped("module")
        ('layer1.0.conv1', '')
    """
    return ".".join(part for part in text.split(".") if part not in WRAPPERS)


def _containers(modules: Sequence[str]) -> dict[str, str]:
    """What is no layer itself but holds layers, and the last of them.

    Example:
        >>> _containers(["stem.0", "stem.1", "layer1.0.conv1", "layer1.0", "layer1.1.conv1", "layer1.1"])
        {'stem': 'stem.1', 'layer1': 'layer1.1'}
    """
    found: dict[str, str] = {}
    for name in modules:
        parts = name.split(".")
        for count in range(1, len(parts)):
            holder = ".".join(parts[:count])
            if holder not in modules:
                found[holder] = name
    return found


def adopt_state(
    state: State, model: Model, shapes: Mapping[str, tuple[int, ...]], rules: Rules | None = None
) -> tuple[State, tuple[str, ...]]:
    """Put a state dict under the oracle's names, and add the counters that it may lack; says what was assumed.

    What is not understood keeps its name, and `oracle.graph.state.check_state` refuses it.

    Example:
        >>> from oracle.case.zoo import find_model
        >>> shapes = {"fc.bias": (10,), "stem.1.num_batches_tracked": ()}
        >>> state, notes = adopt_state({"module.fc.bias": np.zeros(10)}, find_model("narrow_basic"), shapes)
        >>> list(state), notes[-1]
        (['fc.bias', 'stem.1.num_batches_tracked'], '1 num_batches_tracked missing, taken as 0')
    """
    reading = Vocabulary(model).read(state, rules)
    found = {reading.names.get(name, name): value for name, value in state.items() if name not in reading.left_out}
    counters = [name for name in shapes if name.endswith(".num_batches_tracked") and name not in found]
    notes = list(reading.assumed)
    if counters:
        notes.append(f"{len(counters)} num_batches_tracked missing, taken as 0")
    found |= {name: np.zeros(shapes[name], np.int64) for name in counters}
    return found, tuple(notes)
