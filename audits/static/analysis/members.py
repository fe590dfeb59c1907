"""Members of classes as cells of their own, kept up to date by what they are made of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from audits.static.analysis.values import EMPTY, Value, Values
from audits.static.source.project import ClassInfo

if TYPE_CHECKING:
    from audits.static.analysis.engine import Analysis, Key


class Member:
    """What a name is on an instance of a class: from its classes, its instances and, unless exact, its subclasses.

    With `after`, the search starts above that class, as `super()` does.
    """

    def __init__(self, cls: ClassInfo, name: str, *, exact: bool, after: ClassInfo | None) -> None:
        self.key: Key = ("member", cls, name, exact, after)
        self.values: Values = EMPTY
        self._cls = cls
        self._name = name
        self._exact = exact
        self._after = after

    def notify(self, analysis: Analysis, key: Key) -> None:
        """A cell that this member is made of has grown, or the classes around it have changed."""
        before = self.values
        if key[0] in ("above", "below"):
            self.compute(analysis)
        else:
            self.values |= analysis.cells[key]
        if self.values != before:
            analysis.touch(self.key)

    def compute(self, analysis: Analysis) -> None:
        """Find everything that the name may be."""
        cls, name, after = self._cls, self._name, self._after
        analysis.read(self, ("above", cls))
        if not self._exact:
            analysis.read(self, ("below", cls))
        found: list[Iterable[Value]] = []
        own = set(analysis.order(cls))
        for candidate in [cls] if self._exact else [cls, *analysis.below(cls)]:
            order = analysis.order(candidate)
            inherited: set[ClassInfo] = set()
            if after is not None:
                order = order[order.index(after) + 1 :] if after in order else []
            elif candidate is not cls:
                inherited = own
                if len(analysis.cells.get(("bases", candidate), ())) > 1:
                    analysis.read(self, ("above", candidate))  # its other bases may have what a mixin uses
            owner = next((o for o in order if name in o.scope.names), None)
            order = [o for o in order if o not in inherited]
            if owner is not None and owner not in inherited:
                found.append(analysis.read(self, analysis.name_key(owner.scope, name, hot=False)))
            if after is None:
                found += [analysis.read(self, ("attr", o, name)) for o in order]
        self.values = self.values.union(*found)
