"""The spans of nodes against LibCST's own provider, which is slower and right."""

from __future__ import annotations

from pathlib import Path

import libcst as cst
import pytest
from libcst.metadata import MetadataWrapper, PositionProvider

from audits.static.source import ir
from audits.static.source.lower import lower_source
from audits.static.source.positions import positions

TEXTS = {
    "line ends of Windows": 'x = 1\r\ny = """a\r\nb\rc"""\r\ndef f(\r\n  a, # c\r\n):\r\n  return a\r\n',
    "line ends of old, a tab, no last line end": "x=1\ry=2\rif x:\r\ty=3",
    "parentheses, decorators, a lambda": "@d(\n  1,\n)\nclass A(B, metaclass=C):\n    x = (  (1) + 2 )\n    f = lambda a, *b: (a,\n  b)\n",
    "this file": Path(__file__).read_text(encoding="utf-8"),
    "an analyser's file": Path(ir.__file__).read_text(encoding="utf-8"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_the_spans_are_those_of_libcst(name: str) -> None:
    module = cst.parse_module(TEXTS[name])
    expected = MetadataWrapper(module, unsafe_skip_copy=True).resolve(PositionProvider)
    found = positions(module)
    assert set(found) == set(expected)
    for node, place in expected.items():
        if not isinstance(node, cst.Module):
            assert found[node] == (place.start.line, place.start.column, place.end.line, place.end.column), node


def test_a_walk_that_is_remembered_belongs_to_its_body() -> None:
    tree, _ = lower_source(b"x = 1\ny = 2\n", "a.py")
    assert len(list(ir.walk_own(tree.body))) == len(list(ir.walk_own(tree.body))) == 6
    assert len(list(ir.walk_own(tree.body[:1]))) == 3
    assert len(list(ir.walk_own(tree.body))) == 6
