"""Where a file stops being Python, and what the parser says of it."""

from __future__ import annotations

import ast
import warnings

import libcst as cst


def explain_syntax(text: str, error: cst.ParserSyntaxError) -> tuple[int, str]:
    """Line, from 1, and words of what is wrong with `text`, which LibCST refused with `error`.

    The interpreter's own parser says them; LibCST does not know the line of a bad indent. Where the interpreter accepts the text or
    gives up on it, LibCST has the word.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(text)
    except SyntaxError as found:
        return found.lineno or error.raw_line, found.msg
    except (ValueError, RecursionError, MemoryError):
        return error.raw_line, error.message
    return error.raw_line, error.message
