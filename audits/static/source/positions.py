"""Where each LibCST node begins and ends, as LibCST's `PositionProvider` tells it, at a third of the cost.

LibCST finds positions by writing the module out again. This state of that writer keeps plain numbers, skips the tokens' text, and
does without the extra visit of the whole tree that resolving metadata costs.
"""

from __future__ import annotations

from typing import TypeAlias

import libcst as cst
from libcst._nodes.internal import CodegenState

Span: TypeAlias = tuple[int, int, int, int]
"""First line, first column, last line, last column; lines count from 1, columns from 0."""


def positions(module: cst.Module) -> dict[cst.CSTNode, Span]:
    """The span of every node of `module`, without the whitespace around it (the module's own may end a line later)."""
    state = _Writer(module.default_indent, module.default_newline)
    module._codegen(state)
    return state.spans


class _Syntactic:
    """What a node writes between entering and leaving this; `first` and `last` bound it where they are given."""

    __slots__ = ("column", "first", "last", "line", "node", "state")

    def __init__(self, state: _Writer, node: cst.CSTNode, first: cst.CSTNode | None, last: cst.CSTNode | None) -> None:
        self.state, self.node, self.first, self.last = state, node, first, last

    def __enter__(self) -> None:
        self.line, self.column = self.state.line, self.state.column

    def __exit__(self, *_: object) -> None:
        spans = self.state.spans
        start = (self.line, self.column) if self.first is None else spans[self.first][:2]
        end = (self.state.line, self.state.column) if self.last is None else spans[self.last][2:]
        spans[self.node] = (*start, *end)


class _Writer(CodegenState):
    def __init__(self, indent: str, newline: str) -> None:
        super().__init__(indent, newline)
        self.line, self.column = 1, 0
        self.spans: dict[cst.CSTNode, Span] = {}
        self._starts: list[tuple[int, int]] = []

    def add_indent_tokens(self) -> None:
        for token in self.indent_tokens:
            self.column += len(token)

    def add_token(self, value: str) -> None:
        if "\n" in value or "\r" in value:
            lines = value.replace("\r\n", "\n").replace("\r", "\n").split("\n")
            self.line += len(lines) - 1
            self.column = len(lines[-1])
        else:
            self.column += len(value)

    def before_codegen(self, node: cst.CSTNode) -> None:
        self._starts.append((self.line, self.column))

    def after_codegen(self, node: cst.CSTNode) -> None:
        start = self._starts.pop()
        if node not in self.spans:
            self.spans[node] = (*start, self.line, self.column)

    def record_syntactic_position(  # type: ignore[override]  # a context manager too, without a generator for each node
        self, node: cst.CSTNode, *, start_node: cst.CSTNode | None = None, end_node: cst.CSTNode | None = None
    ) -> _Syntactic:
        return _Syntactic(self, node, start_node, end_node)
