"""What a mutant is: a sink, a carrier that leads to it, a site that uses it, and a depth; sampled with a seed.

A sink says what is violated and holds a harmless twin. A carrier says how the site gets to it: an alias, a table, a
hook, a subclass. A site is a place in ``ris_pipeline``. The depth counts the helpers, spread over modules, between.
"""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tests.audits.mutants.carriers import CARRIERS, Carrier

DEPTHS = (0, 1, 2, 3, 4)


@dataclass(frozen=True)
class Op:
    """An operation: the body of a function of the sink's parameters, or a reference to a function and its operands."""

    body: str = ""
    ref: str = ""
    operands: str = ""

    @property
    def expression(self) -> str:
        """The body as one expression, or "" where it needs statements."""
        return self.body.removeprefix("return ") if self.body.startswith("return ") and "\n" not in self.body else ""


@dataclass(frozen=True)
class Sink:
    """A violation ``bad`` and a harmless operation ``good`` of the same shape.

    ``prelude`` are statements that make the operands out of the parameters. ``both`` imports serve both.
    """

    name: str
    bad: Op
    good: Op
    params: str = "x"
    prelude: str = ""
    imports: str = ""


@dataclass(frozen=True)
class Site:
    """A place: ``old`` occurs once in ``file`` and becomes ``new``, in which ``§`` stands for the planted expression.

    A line of ``new`` that consists of ``§`` takes whole statements. ``args`` are what the site hands to the sink.
    ``scenario`` runs the site; see ``scenarios``.
    """

    name: str
    file: str
    old: str
    new: str
    args: str
    scenario: str


@dataclass(frozen=True)
class Edit:
    """A violation that is a change of text: one ``old`` for the mutant and its twin, and what each of them makes of it.

    ``more`` are further files, as pairs of name and text; what stands behind ``§`` only the twin gets.
    """

    name: str
    file: str
    old: str
    bad: str
    good: str
    scenario: str = ""
    more: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Block:
    """Everything that can be combined for one rule."""

    rule: str
    sinks: tuple[Sink, ...] = ()
    sites: tuple[Site, ...] = ()
    edits: tuple[Edit, ...] = ()
    carriers: tuple[str, ...] = ()
    depths: tuple[int, ...] = DEPTHS
    weight: float = 1.0
    evidence: str = ""
    names: tuple[str, ...] = ()

    def usable(self) -> list[Carrier]:
        """The carriers of this block; all that need no tensor where none are named."""
        return [c for c in CARRIERS.values() if (c.name in self.carriers if self.carriers else not c.tensor)]


@dataclass(frozen=True)
class Mutant:
    """One combination. Its key is stable, so that a run can be resumed."""

    block: Block = field(repr=False)
    sink: Sink | Edit
    carrier: Carrier | None = None
    site: Site | None = None
    depth: int = 0

    @property
    def rule(self) -> str:
        """The rule that it violates."""
        return self.block.rule

    @property
    def key(self) -> str:
        """Rule, sink, carrier, site and depth."""
        if self.carrier is None or self.site is None:
            return f"{self.rule}/{self.sink.name}"
        return f"{self.rule}/{self.sink.name}/{self.carrier.name}/{self.site.name}/{self.depth}"

    @property
    def scenario(self) -> str:
        """What runs it, or "" where it is compiled only."""
        return self.sink.scenario if isinstance(self.sink, Edit) else self.site.scenario if self.site else ""


def seeded(*parts: object) -> random.Random:
    """A generator that depends on nothing but ``parts``."""
    return random.Random(hashlib.sha256("/".join(map(str, parts)).encode()).digest())


def accepts(carrier: Carrier, sink: Sink) -> bool:
    """Whether the carrier can lead to both operations of the sink."""
    return all(carrier.takes(op.ref or op.body, op.operands or sink.params) for op in (sink.bad, sink.good))


def sample(blocks: Iterable[Block], rules: Iterable[str], count: int, seed: int) -> list[Mutant]:
    """``count`` mutants of each rule, as far as there are so many, spread over sinks, carriers, sites and depths."""
    everything = list(blocks)
    found: list[Mutant] = []
    for rule in rules:
        mine = [b for b in everything if b.rule == rule]
        total = sum(b.weight for b in mine)
        for number, block in enumerate(mine):
            share = max(1, round(count * block.weight / total))
            found += itertools.islice(_draw(block, seeded(seed, rule, number)), share)
    return found


def _draw(block: Block, rng: random.Random) -> Iterator[Mutant]:
    edits = [Mutant(block, e) for e in block.edits]
    rng.shuffle(edits)
    yield from edits
    if not block.sinks:
        return
    sinks, sites, depths, carriers = list(block.sinks), list(block.sites), list(block.depths), block.usable()
    seen: set[str] = set()
    misses = 0
    for number in itertools.count():
        # Every round takes all values of each axis once, in a new order: a small sample already covers each axis.
        for axis in (sinks, sites, depths, carriers):
            if number % len(axis) == 0:
                rng.shuffle(axis)
        sink, site, depth, carrier = (axis[number % len(axis)] for axis in (sinks, sites, depths, carriers))
        mutant = Mutant(block, sink, carrier, site, depth)
        if mutant.key in seen or not accepts(carrier, sink):
            misses += 1
            if misses > 500:
                return
            continue
        misses = 0
        seen.add(mutant.key)
        yield mutant
