"""From a mutant to source: the files that it changes or adds, and the lines that perform the violation."""

from __future__ import annotations

import functools
import random
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from string import Template

from tests.audits.mutants.carriers import Carrier
from tests.audits.mutants.model import Edit, Mutant, Op, Sink, Site, seeded

PACKAGE = "ris_pipeline"
WATCH = "~"
HOLE = "§"
_WORDS = (
    "amber", "basin", "cedar", "delta", "ember", "fjord", "grove", "harbor", "inlet", "juniper", "kelp", "lagoon", "meadow", "nectar",
    "orchid", "prairie", "quarry", "ridge", "summit", "tundra", "umber", "valley", "willow", "yarrow", "zephyr", "birch", "canyon",
    "dune", "estuary", "fern", "glacier", "heath", "islet", "knoll", "lichen", "mesa", "oasis", "pebble", "reef", "slope", "thicket",
)  # fmt: skip
_FUTURE = "from __future__ import annotations\n"


@dataclass(frozen=True)
class Planting:
    """Changed and added files by path, and the lines to be seen at work: (path, line)."""

    files: Mapping[str, str]
    watched: tuple[tuple[str, int], ...]


class DoesNotFitError(Exception):
    """The text that a site or an edit replaces is not there, or not unique."""


@dataclass
class _Names:
    """Fresh names: no word is used twice, and none occurs in the package."""

    rng: random.Random
    taken: set[str]
    home: set[str]
    tempting: list[str] = field(default_factory=list)

    def fresh(self, suffix: str = "") -> str:
        tries = 0
        while True:
            # Twins that stand beside one another use up the words; then two of them make a name.
            word = "_".join(self.rng.choice(_WORDS) for _ in range(1 + tries // len(_WORDS)))
            name = f"{word}_{suffix}" if suffix else word
            tries += 1
            if name not in self.taken:
                self.taken.add(name)
                return name
    def function(self) -> str:
        """A name for a helper; one that only sounds like the violation where there is one."""
        while self.tempting and self.rng.random() < 0.5:
            name = self.tempting.pop()
            if name not in self.home:
                return name
        return self.fresh(self.rng.choice(("step", "part", "map", "view", "stage", "terms")))


@dataclass
class _Module:
    """A module to be written: imports and definitions."""

    path: str
    imports: list[str] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)

    @property
    def dotted(self) -> str:
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    def text(self) -> str:
        lines = [line for block in self.imports for line in block.splitlines()]
        return "\n".join([*dict.fromkeys(lines), "", "", *self.parts, ""])


def compose(mutant: Mutant, sources: Mapping[str, str], *, harmless: bool) -> Planting:
    """Write the mutant, or its harmless twin.

    Raises:
        DoesNotFitError: the place is not in ``sources``.
    """
    if isinstance(mutant.sink, Edit):
        return _edited(mutant.sink, sources, harmless=harmless)
    assert mutant.carrier is not None
    assert mutant.site is not None
    return _Writer(mutant, mutant.sink, mutant.carrier, mutant.site, sources, harmless=harmless).write()


def _edited(edit: Edit, sources: Mapping[str, str], *, harmless: bool) -> Planting:
    text = _replaced(sources[edit.file], edit.old, edit.good if harmless else edit.bad, edit.file)
    # Of a further file, the mutant gets what stands before the hole, and the twin all of it.
    files = {edit.file: text} | {path: more.replace(HOLE, "") if harmless else more.partition(HOLE)[0] for path, more in edit.more}
    return _watched(files)


def _replaced(text: str, old: str, new: str, where: str) -> str:
    if text.count(old) != 1:
        raise DoesNotFitError(f"{where}: expected once, found {text.count(old)} times: {old!r}")
    return text.replace(old, new)


def _watched(files: Mapping[str, str]) -> Planting:
    clean: dict[str, str] = {}
    marks: list[tuple[str, int]] = []
    for path, text in files.items():
        lines = text.split("\n")
        marks += [(path, number) for number, line in enumerate(lines, 1) if line.lstrip().startswith(WATCH)]
        clean[path] = "\n".join(re.sub(rf"^(\s*){WATCH}", r"\1", line) for line in lines)
    return Planting(clean, tuple(marks))


class _Writer:
    """Lays out one mutant: site, helpers, carrier and operation, in modules that import one another in this order."""

    def __init__(self, mutant: Mutant, sink: Sink, carrier: Carrier, site: Site, sources: Mapping[str, str], *, harmless: bool) -> None:
        self.mutant, self.sink, self.carrier, self.site, self.sources = mutant, sink, carrier, site, sources
        self.op: Op = sink.good if harmless else sink.bad
        self.rng = seeded(mutant.key, "layout")
        tempting = list(mutant.block.names) if harmless else []
        seeded(mutant.key, "names").shuffle(tempting)
        self.names = _Names(self.rng, set().union(*map(_words, sources.values())), set(_words(sources[site.file])), tempting)
        self.modules = [_Module(site.file)]
        self.extra: dict[str, str] = {}

    def write(self) -> Planting:
        inline = self.mutant.depth == 0 and self.carrier.name == "direct" and self.op.body
        if inline and (self.op.expression or self._takes_statements()) and "return" not in self.op.body.removeprefix("return"):
            return self._inline()
        call = self._chain()
        text = self._at_site(f"{call}({self.site.args})", watch=False)
        home = self.modules[0]
        files = {self.site.file: _with(text, home.imports, home.parts)}
        files |= {module.path: module.text() for module in self.modules[1:]}
        return _watched({**files, **self.extra})

    # -- at the site

    def _takes_statements(self) -> bool:
        return any(line.strip() == HOLE for line in self.site.new.splitlines())

    def _at_site(self, expression: str, *, watch: bool) -> str:
        lines = []
        for line in self.site.new.split("\n"):
            planted = self.names.fresh("value") + f" = {expression}" if line.strip() == HOLE else line.replace(HOLE, expression)
            body = line.replace(HOLE, "").rstrip() if line.strip() != HOLE else line[: line.index(HOLE)]
            if line.strip() == HOLE:
                planted = f"{body}{WATCH if watch else ''}{planted}"
            elif watch and HOLE in line:
                indent = len(line) - len(line.lstrip())
                planted = f"{line[:indent]}{WATCH}{planted[indent:]}"
            lines.append(planted)
        return _replaced(self.sources[self.site.file], self.site.old, "\n".join(lines), self.site.file)

    def _inline(self) -> Planting:
        # The operation itself at the site, its parameters bound to what the site has.
        home = self.modules[0]
        home.imports.append(self.sink.imports)
        given = dict(zip(_names(self.sink.params), _split(self.site.args), strict=True))
        expression = self.op.expression
        if not self._takes_statements():
            body = re.sub(r"\b(" + "|".join(given) + r")\b(?!\s*=[^=])", lambda m: f"({given[m[0]]})", expression)
            text = self._at_site(f"({body})", watch=True)
        else:
            fresh = {name: self.names.fresh("value") for name in given}
            lines = [f"{fresh[name]} = {value}" for name, value in given.items()]
            body = "\n".join(part for part in (self.sink.prelude, self.op.body) if part)
            body = re.sub(r"\b(" + "|".join(fresh) + r")\b(?!\s*=[^=])", lambda m: fresh[m[0]], body)
            statements = [*lines, *body.split("\n")]
            last = statements[-1]
            if last.startswith("return "):
                statements[-1] = f"{self.names.fresh('value')} = {last.removeprefix('return ')}"
            statements[-1] = WATCH + statements[-1]
            indent = next(line[: line.index(HOLE)] for line in self.site.new.splitlines() if line.strip() == HOLE)
            block = textwrap.indent("\n".join(statements), indent)
            new = "\n".join(block if line.strip() == HOLE else line for line in self.site.new.split("\n"))
            text = _replaced(self.sources[self.site.file], self.site.old, new, self.site.file)
        return _watched({self.site.file: _with(text, home.imports, home.parts)})

    # -- helpers

    def _chain(self) -> str:
        """Write helpers and carrier; return how the site names the first of them."""
        modules = self.modules
        new = min(self.mutant.depth, self.rng.choice((0, 1, 1, 2, 3)))
        while len(modules) < 1 + new:
            modules.append(_Module(self._place()))
        # Helpers fill the modules in order, each module with at least one, the carrier in the last.
        owner = sorted(self.rng.choices(range(len(modules)), k=self.mutant.depth))
        if len(modules) > 1:
            owner = sorted([*range(len(modules)), *owner])[-self.mutant.depth :] if self.mutant.depth else []
        name, where = self._bottom(modules[-1]), modules[-1]
        for index in reversed(owner):
            caller = self.names.function()
            callee = self._reference(modules[index], where, name)
            modules[index].parts.append(self._helper(caller, callee))
            name, where = caller, modules[index]
        return self._reference(modules[0], where, name)

    def _place(self) -> str:
        # Beside the site or at the top: a module elsewhere would be imported through a package that imports the site.
        folder = self.rng.choice((PACKAGE, self.site.file.rpartition("/")[0]))
        return f"{folder}/{self.names.fresh()}.py"

    def _helper(self, name: str, callee: str) -> str:
        x = self.sink.params
        keywords = ", ".join(f"{p}={p}" for p in _names(x))
        forms = (
            f"def {name}({x}):\n    return {callee}({x})\n",
            f"def {name}({x}):\n    return {callee}({keywords})\n",
            f"def {name}({x}, *, scale=None):\n    made = {callee}({x})\n    return made\n",
            f"def {name}({x}):\n    found = None\n    for _ in range(1):\n        found = {callee}({x})\n    return found\n",
        )
        return self.rng.choice(forms)

    def _reference(self, caller: _Module, home: _Module, name: str) -> str:
        """Import ``name`` of ``home`` into ``caller`` in one of the usual ways, and say how it is called there."""
        if caller is home:
            return name
        parent, _, leaf = home.dotted.rpartition(".")
        alias = self.names.fresh()
        line, spelled = self.rng.choice(
            (
                (f"from {home.dotted} import {name}", name),
                (f"from {home.dotted} import {name} as {alias}", alias),
                (f"import {home.dotted} as {alias}", f"{alias}.{name}"),
                (f"from {parent} import {leaf}", f"{leaf}.{name}"),
                (f"from {parent} import {leaf} as {alias}", f"{alias}.{name}"),
            )
        )
        caller.imports.append(line)
        return spelled

    # -- carrier and operation

    def _bottom(self, module: _Module) -> str:
        """Write operation and carrier into ``module``; return the name of a function of the sink's parameters."""
        x = self.op.operands or self.sink.params
        declared = ", ".join(dict.fromkeys(_names(x)))
        name = self.names.function()
        fresh = {key: self.names.fresh() for key in "pqr"} | {key: self.names.fresh().capitalize() for key in "PQR"}
        values = {**fresh, "n": name, "x": declared, "own": f"{PACKAGE}.{self.names.fresh()}"}
        module.imports += [self.sink.imports]
        if self.op.ref:
            values["mod"], _, values["attr"] = self.op.ref.rpartition(".")
            values["f"] = self.op.ref
            values["call"] = f"{self.op.ref}({declared})"
        else:
            values |= self._leaf(module)
        if len(_names(x)) != len(set(_names(x))):
            raise DoesNotFitError(f"{self.sink.name}: an operand is given twice")
        body = Template(self.carrier.text).substitute(values)
        module.imports += [Template(self.carrier.imports).substitute(values)]
        module.parts.append(_definitions(body))
        own = str(values["own"]).replace(".", "/")
        for suffix, text in self.carrier.files:
            self.extra[f"{own}{suffix}.py"] = Template(text).substitute(values)
        if not (self.sink.prelude or self.op.operands):
            return name
        outer = self.names.function()
        lines = [*self.sink.prelude.split("\n"), f"return {name}({x})"]
        module.parts.append(f"def {outer}({self.sink.params}):\n" + textwrap.indent("\n".join(lines), "    ") + "\n")
        return outer

    def _leaf(self, module: _Module) -> dict[str, str]:
        x = self.op.operands or self.sink.params
        leaf = self.names.function()
        text = f"def {leaf}({x}):\n" + textwrap.indent(_last_watched(self.op.body), "    ") + "\n"
        call = f"({self.op.expression})" if self.op.expression else f"{leaf}({x})"
        if self.carrier.by_module:
            home = _Module(self._place(), [self.sink.imports], [text])
            self.extra[home.path] = home.text()
            return {"mod": home.dotted, "attr": leaf, "f": leaf, "call": call}
        if "$f" in self.carrier.text or not self.op.expression:
            module.parts.append(text)
        return {"mod": module.dotted, "attr": leaf, "f": leaf, "call": call}


@functools.lru_cache(maxsize=400)
def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text))


def _last_watched(body: str) -> str:
    """The body with its last line watched, or its first where not every run comes to the last; marked lines stay as they are."""
    lines = body.split("\n")
    if any(line.lstrip().startswith(WATCH) for line in lines):
        return body
    at = 0 if sum("return" in line for line in lines) > 1 or lines[0] == "try:" else -1
    indent = len(lines[at]) - len(lines[at].lstrip())
    lines[at] = f"{lines[at][:indent]}{WATCH}{lines[at][indent:]}"
    return "\n".join(lines)


def _definitions(body: str) -> str:
    return re.sub(r"\n(?=(def |class |@|async def ))", "\n\n\n", body) + "\n"


def _names(parameters: str) -> list[str]:
    return [p.strip() for p in parameters.split(",")]


def _split(arguments: str) -> list[str]:
    """Arguments at the top level of brackets."""
    out, depth = [""], 0
    for letter in arguments:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0:
            out.append("")
        else:
            out[-1] += letter
    return [part.strip() for part in out]


def _with(text: str, imports: list[str], parts: list[str]) -> str:
    """``text`` with imports below its future import, and definitions at its end."""
    lines = "\n".join(dict.fromkeys(line for block in imports for line in block.splitlines() if line))
    if lines:
        if text.count(_FUTURE) == 1:
            text = text.replace(_FUTURE, f"{_FUTURE}{lines}\n")
        else:
            head = re.match(r'(?s)\A"""(.*?)"""\n', text)
            at = head.end() if head else 0
            text = f"{text[:at]}{lines}\n{text[at:]}"
    return text + "".join(f"\n\n{part}" for part in parts)
