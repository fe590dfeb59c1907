"""How deeply an expression nests, counted on tokens: deeper code would overflow the stack of LibCST's native parser.

Brackets nest while they are open. Operators, attributes, calls and adjacent strings nest as long as their chain goes on.
"""

from __future__ import annotations

import re

MAX_WEIGHT = 1_500  # what the parser and every pass over its tree can bear, in binary operators of one sum
MAX_INDENT = 90
MAX_ELIF = 500
MAX_LOOPS = 14  # the parser's time doubles with each loop inside a loop
_BRACKET, _LINK = 6, 3  # brackets and other links take more of the stack than binary operators do
_QUOTED = r"{0}{0}{0}[^{0}\\]*(?:(?:\\.|{0}(?!{0}{0}))[^{0}\\]*)*(?:{0}{0}{0}|\Z)|{0}(?:[^{0}\\\n]|\\.)*{0}?"
_TOKEN = re.compile(
    r"(?P<comment>\#[^\r\n]*|\\\r?\n)|(?P<string>(?i:[rbuft]{0,2})(?:" + _QUOTED.format('"') + "|" + _QUOTED.format("'") + "))"
    r"|(?P<operand>\.?\d[\w.]*|\.\.\.)|(?P<word>[^\W\d]\w*)|(?P<open>[(\[{])|(?P<close>[)\]}])|(?P<newline>[\r\n][ \t\f]*)"
    r"|(?P<stop>[,;])|(?P<dot>\.)|(?P<operator>\*\*|//|<<|>>|[-+*/%@&|^~<>])",
    re.DOTALL,
)
_CHAINED = frozenset({"and", "or", "not", "if", "else", "lambda", "await", "in", "is"})


class Nesting:
    """A walk over the tokens of one file."""

    def __init__(self) -> None:
        self._levels = [0]
        self._weight = 0
        self._indents = [0]
        self._loops = [False]
        self._statement = ""
        self._elifs = 0
        self._previous = ""

    def check(self, text: str) -> tuple[int, str] | None:
        """The first line that nests too deeply and what does so there, or None."""
        for match in _TOKEN.finditer(text):
            kind = match.lastgroup or ""
            if kind == "comment" or (kind == "newline" and len(self._levels) > 1):
                continue  # inside brackets a line has no end
            what = self._see(kind, match)
            if self._weight > MAX_WEIGHT:
                what = f"more than {MAX_WEIGHT // _BRACKET} nested brackets, or {MAX_WEIGHT // _LINK} links in one chain of code"
            if what is not None:
                return text.count("\n", 0, match.start()) + 1, what
            self._previous = kind
        return None

    def _see(self, kind: str, match: re.Match[str]) -> str | None:
        if kind == "word":
            return self._word(match[0])
        if kind == "newline":
            return self._newline(match)
        if kind == "stop":
            self._weight -= self._levels[-1]
            self._levels[-1] = 0
        elif kind == "close":
            if len(self._levels) > 1:
                self._weight -= self._levels.pop() + _BRACKET
        elif kind == "open":
            if self._previous in ("operand", "word", "string", "close"):
                self._add(_LINK)
            self._levels.append(0)
            self._weight += _BRACKET
        elif kind == "operator":
            self._add(1 if self._previous in ("operand", "word", "string", "close") else _LINK)
        elif kind == "dot" or (kind == "string" and self._previous == "string"):
            self._add(_LINK)
        return None

    def _add(self, weight: int) -> None:
        self._levels[-1] += weight
        self._weight += weight

    def _word(self, word: str) -> str | None:
        if self._previous in ("", "newline") or (self._statement == "async" and self._previous == "word"):
            self._statement = word
        if word in _CHAINED:
            self._add(_LINK)
        elif word == "elif":
            self._elifs += 1
        elif word in ("def", "class"):
            self._elifs = 0
        return f"more than {MAX_ELIF} branches of one if" if self._elifs > MAX_ELIF else None

    def _newline(self, match: re.Match[str]) -> str | None:
        self._weight -= self._levels[0]
        self._levels[0] = 0
        end = match.end()
        if match.string[end : end + 1] in ("\n", "\r", "#", ""):
            return None
        indent = len(match[0].expandtabs()) - 1
        while self._indents[-1] > indent:
            self._indents.pop()
            self._loops.pop()
        if indent > self._indents[-1]:
            self._indents.append(indent)
            self._loops.append(self._statement == "for")
        if sum(self._loops) > MAX_LOOPS:
            return f"more than {MAX_LOOPS} loops inside one another"
        return f"more than {MAX_INDENT} levels of indentation" if len(self._indents) > MAX_INDENT else None
