"""LibCST to the auditor's tree: one pass, positions included."""

from __future__ import annotations

import ast
import re
import tokenize
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import libcst as cst

from audits.static.errors import AuditInputError
from audits.static.source import ir
from audits.static.source.aliases import use_usual_names
from audits.static.source.nesting import Nesting
from audits.static.source.positions import Span, positions
from audits.static.source.syntax import explain_syntax

_Source = Callable[[], ir.Expr] | None
_NEGATED_OPS = {"NotIn": "not in", "IsNot": "is not", "In": "in", "Is": "is"}


_LINE_END = re.compile(r"\r\n|\r|\n")  # what ends a line for Python; `str.splitlines` knows more, such as form feeds


def lower_source(source: bytes, label: str) -> tuple[ir.Module, list[str]]:
    """Parse `source` and return its tree and its lines.

    Raises:
        AuditInputError: the file is not valid Python text; the sentence names `label`.
    """
    text = _decode(source, label)
    deep = Nesting().check(text)
    if deep is not None:
        raise AuditInputError(f"{label}:{deep[0]}: {deep[1]}, which is more than can be analysed.")
    try:
        module = cst.parse_module(text)
        tree = Lowering(positions(module)).module(module)
        use_usual_names(tree)
        return tree, _LINE_END.split(text)
    except cst.ParserSyntaxError as error:
        line, words = explain_syntax(text, error)
        raise AuditInputError(f"{label}:{line}: expected Python that parses, but got a syntax error: {words}.") from error
    except RecursionError as error:
        raise AuditInputError(f"{label}: the code is nested too deeply to be analysed.") from error


def lower_expression(text: str, like: ir.Node) -> ir.Expr | None:
    """The expression in a string annotation, placed where `like` stands; None where it does not parse."""
    if Nesting().check(text) is not None:
        return None
    try:
        expression = cst.parse_expression(text)
    except (cst.ParserSyntaxError, ValueError):
        return None
    return Lowering({}, like).expr(expression)


def _decode(source: bytes, label: str) -> str:
    try:
        encoding, _ = tokenize.detect_encoding(iter(source.splitlines(keepends=True)).__next__)
        return source.decode(encoding)
    except (SyntaxError, UnicodeDecodeError, LookupError) as error:
        raise AuditInputError(f"{label}: expected UTF-8 text, but the file does not decode.") from error


class Lowering:
    """Turns LibCST nodes into `ir` nodes; `like` gives one place to everything that has none of its own."""

    def __init__(self, spans: Mapping[cst.CSTNode, Span], like: ir.Node | None = None) -> None:
        self._spans = spans
        self._like = like

    def module(self, node: cst.Module) -> ir.Module:
        """The whole file, with its comments by line."""
        comments: dict[int, str] = {}
        code_lines: set[int] = set()
        for item, span in self._spans.items():
            if isinstance(item, cst.Comment):
                comments[span[0]] = item.value
            elif _is_code(type(item)):
                code_lines.add(span[0])
        return ir.Module(1, 1, 1, 1, self._block(node.body), comments, code_lines)

    def _at(self, node: cst.CSTNode) -> tuple[int, int, int, int]:
        span = self._spans.get(node)
        if span is None:
            like = self._like
            return (like.line, like.column, like.end_line, like.end_column) if like else (1, 1, 1, 1)
        line, column, end_line, end_column = span
        return line, column + 1, end_line, end_column + 1

    # -- statements

    def _block(self, body: Any) -> list[ir.Stmt]:
        statements = body.body if isinstance(body, (cst.IndentedBlock, cst.SimpleStatementSuite)) else body
        out: list[ir.Stmt] = []
        for item in statements:
            if isinstance(item, cst.SimpleStatementLine):
                for small in item.body:
                    out.append(self.stmt(small))
            else:
                out.append(self.stmt(item))
        return out

    def stmt(self, node: Any) -> ir.Stmt:
        """One statement."""
        handler = _STATEMENTS.get(type(node).__name__)
        if handler is None:
            return ir.Simple(*self._at(node), kind=type(node).__name__.lower())
        return handler(self, node)

    def _expr_stmt(self, node: cst.Expr) -> ir.Stmt:
        return ir.ExprStmt(*self._at(node), value=self.expr(node.value))

    def _assign(self, node: cst.Assign) -> ir.Stmt:
        targets = [self.expr(t.target) for t in node.targets]
        return ir.Assign(*self._at(node), targets=targets, value=self.expr(node.value))

    def _ann_assign(self, node: cst.AnnAssign) -> ir.Stmt:
        value = self.expr(node.value) if node.value is not None else None
        annotation = self.expr(node.annotation.annotation)
        return ir.Assign(*self._at(node), targets=[self.expr(node.target)], value=value, annotation=annotation)

    def _aug_assign(self, node: cst.AugAssign) -> ir.Stmt:
        op = _operator(node.operator).rstrip("=")
        return ir.AugAssign(*self._at(node), target=self.expr(node.target), op=op, value=self.expr(node.value))

    def _return(self, node: cst.Return) -> ir.Stmt:
        return ir.Return(*self._at(node), value=self._maybe(node.value))

    def _if(self, node: cst.If) -> ir.Stmt:
        orelse: list[ir.Stmt] = []
        if isinstance(node.orelse, cst.If):
            orelse = [self.stmt(node.orelse)]
        elif node.orelse is not None:
            orelse = self._block(node.orelse.body)
        return ir.If(*self._at(node), test=self.expr(node.test), body=self._block(node.body), orelse=orelse)

    def _else(self, node: Any) -> list[ir.Stmt]:
        return self._block(node.orelse.body) if node.orelse is not None else []

    def _for(self, node: cst.For) -> ir.Stmt:
        target, source = self.expr(node.target), self.expr(node.iter)
        return ir.For(*self._at(node), target=target, iter=source, body=self._block(node.body), orelse=self._else(node))

    def _while(self, node: cst.While) -> ir.Stmt:
        return ir.While(*self._at(node), test=self.expr(node.test), body=self._block(node.body), orelse=self._else(node))

    def _with(self, node: cst.With) -> ir.Stmt:
        items = [
            ir.WithItem(*self._at(i), context=self.expr(i.item), target=self._maybe(i.asname.name if i.asname else None))
            for i in node.items
        ]
        return ir.With(*self._at(node), items=items, body=self._block(node.body))

    def _try(self, node: Any) -> ir.Stmt:
        handlers = [
            ir.Handler(
                *self._at(h),
                type=self._maybe(h.type),
                name=self._maybe(h.name.name if h.name else None),
                body=self._block(h.body),
            )
            for h in node.handlers
        ]
        final = self._block(node.finalbody.body) if node.finalbody is not None else []
        body = self._block(node.body)
        return ir.Try(*self._at(node), body=body, handlers=handlers, orelse=self._else(node), finalbody=final)

    def _match(self, node: cst.Match) -> ir.Stmt:
        subject = self.expr(node.subject)
        source = (lambda: self.expr(node.subject)) if ir.dotted(subject) is not None else None
        cases = []
        for case in node.cases:
            tests: list[ir.Expr] = []
            bindings: list[ir.Expr] = []
            self._pattern(case.pattern, tests, bindings, source)
            place = self._at(case)
            cases.append(ir.Case(*place, tests, bindings, self._maybe(case.guard), self._block(case.body)))
        return ir.Match(*self._at(node), subject=subject, cases=cases)

    def _pattern(self, node: cst.CSTNode, tests: list[ir.Expr], bindings: list[ir.Expr], source: _Source = None) -> None:
        """Take a pattern apart; `source` makes the expression that is matched, where that is a plain chain of attributes."""
        if isinstance(node, (cst.MatchValue, cst.MatchSingleton)):
            tests.append(self.expr(node.value))
            return
        if isinstance(node, cst.MatchClass):
            tests.append(self.expr(node.cls))
            self._class_pattern(node, tests, bindings, source)
            return
        if isinstance(node, (cst.MatchAs, cst.MatchStar)) and node.name is not None:
            bindings.append(self.expr(node.name))
        if isinstance(node, cst.MatchMapping):
            tests.extend(self.expr(e.key) for e in node.elements)
            if node.rest is not None:
                bindings.append(self.expr(node.rest))
        inner = source if isinstance(node, (cst.MatchAs, cst.MatchOr, cst.MatchOrElement)) else None
        for child in node.children:
            if isinstance(child, (cst.MatchPattern, cst.MatchSequenceElement, cst.MatchMappingElement, cst.MatchOrElement, cst.MatchStar)):
                self._pattern(child, tests, bindings, inner)

    def _class_pattern(self, node: cst.MatchClass, tests: list[ir.Expr], bindings: list[ir.Expr], source: _Source) -> None:
        # A class pattern reads the attributes that it names of what is matched, and by position those of `__match_args__`.
        for number, element in enumerate(node.patterns):
            if source is not None:
                place = self._at(node)
                tests.append(ir.Subscript(*place, source(), ir.Constant(*place, number)))
            self._pattern(element, tests, bindings)
        for keyword in node.kwds:
            inner = self._attribute_of(source, node, keyword.key.value) if source is not None else None
            if inner is not None:
                tests.append(inner())
            self._pattern(keyword.pattern, tests, bindings, inner)

    def _attribute_of(self, source: Callable[[], ir.Expr], node: cst.MatchClass, name: str) -> Callable[[], ir.Expr]:
        return lambda: ir.Attribute(*self._at(node), source(), name)

    def _raise(self, node: cst.Raise) -> ir.Stmt:
        cause = self._maybe(node.cause.item if node.cause else None)
        return ir.Raise(*self._at(node), exc=self._maybe(node.exc), cause=cause)

    def _assert(self, node: cst.Assert) -> ir.Stmt:
        return ir.Assert(*self._at(node), test=self.expr(node.test), message=self._maybe(node.msg))

    def _del(self, node: cst.Del) -> ir.Stmt:
        return ir.Delete(*self._at(node), target=self.expr(node.target))

    def _import(self, node: Any) -> ir.Stmt:
        names = [(_dotted(a.name), a.asname.name.value if a.asname else None) for a in node.names]
        return ir.Import(*self._at(node), names=names)

    def _import_from(self, node: Any) -> ir.Stmt:
        names: list[tuple[str, str | None]] = [("*", None)]
        if not isinstance(node.names, cst.ImportStar):
            names = [(_dotted(a.name), a.asname.name.value if a.asname else None) for a in node.names]
        module = _dotted(node.module) if node.module is not None else ""
        return ir.ImportFrom(*self._at(node), module=module, level=len(node.relative), names=names)

    def _global(self, node: Any) -> ir.Stmt:
        names = [item.name.value for item in node.names]
        return ir.Global(*self._at(node), names=names, nonlocal_=isinstance(node, cst.Nonlocal))

    def _type_alias(self, node: cst.TypeAlias) -> ir.Stmt:
        return ir.Assign(*self._at(node), targets=[self.expr(node.name)], value=self.expr(node.value))

    def _function(self, node: cst.FunctionDef) -> ir.Function:
        decorators = [self.expr(d.decorator) for d in node.decorators]
        returns = self.expr(node.returns.annotation) if node.returns is not None else None
        place = self._at(node.name)
        params, body = self._params(node.params), self._block(node.body)
        return ir.Function(*place, name=node.name.value, params=params, body=body, decorators=decorators, returns=returns)

    def _params(self, node: cst.Parameters) -> list[ir.Param]:
        groups: list[tuple[str, Any]] = [("pos", [*node.posonly_params, *node.params])]
        if isinstance(node.star_arg, cst.Param):
            groups.append(("*", [node.star_arg]))
        groups.append(("kw", node.kwonly_params))
        if node.star_kwarg is not None:
            groups.append(("**", [node.star_kwarg]))
        out = []
        for kind, params in groups:
            for p in params:
                annotation = self._maybe(p.annotation.annotation if p.annotation else None)
                out.append(ir.Param(*self._at(p), p.name.value, annotation, self._maybe(p.default), kind))
        return out

    def _class(self, node: cst.ClassDef) -> ir.Stmt:
        return ir.ClassDef(
            *self._at(node.name),
            name=node.name.value,
            bases=[self.expr(b.value) for b in node.bases],
            keywords=[self._arg(k) for k in node.keywords],
            decorators=[self.expr(d.decorator) for d in node.decorators],
            body=self._block(node.body),
        )

    # -- expressions

    def _maybe(self, node: Any) -> ir.Expr | None:
        return self.expr(node) if node is not None else None

    def expr(self, node: Any) -> ir.Expr:
        """One expression."""
        handler = _EXPRESSIONS.get(type(node).__name__)
        if handler is None:
            return ir.Constant(*self._at(node), value=...)
        return handler(self, node)

    def _name(self, node: cst.Name) -> ir.Expr:
        if node.value in ("True", "False", "None"):
            return ir.Constant(*self._at(node), value={"True": True, "False": False, "None": None}[node.value])
        return ir.Name(*self._at(node), id=node.value)

    def _attribute(self, node: cst.Attribute) -> ir.Expr:
        return ir.Attribute(*self._at(node), value=self.expr(node.value), attr=node.attr.value)

    def _literal(self, node: Any) -> ir.Expr:
        try:
            value = ast.literal_eval(node.value)
        except (ValueError, SyntaxError, MemoryError):
            value = ...
        return ir.Constant(*self._at(node), value=value)

    def _concatenated(self, node: cst.ConcatenatedString) -> ir.Expr:
        left, right = self.expr(node.left), self.expr(node.right)
        if isinstance(left, ir.Constant) and isinstance(right, ir.Constant):
            if isinstance(left.value, str) and isinstance(right.value, str):
                return ir.Constant(*self._at(node), value=left.value + right.value)
        return ir.FString(*self._at(node), parts=[left, right])

    def _fstring(self, node: cst.FormattedString) -> ir.Expr:
        parts: list[ir.Expr] = []
        for part in node.parts:
            if isinstance(part, cst.FormattedStringText):
                parts.append(ir.Constant(*self._at(part), value=part.value))
            elif isinstance(part, cst.FormattedStringExpression):
                parts.append(self.expr(part.expression))
        return ir.FString(*self._at(node), parts=parts)

    def _call(self, node: cst.Call) -> ir.Expr:
        return ir.Call(*self._at(node), func=self.expr(node.func), args=[self._arg(a) for a in node.args])

    def _arg(self, node: cst.Arg) -> ir.Arg:
        keyword = node.keyword.value if node.keyword is not None else None
        return ir.Arg(*self._at(node), value=self.expr(node.value), keyword=keyword, star=node.star)

    def _binary(self, node: cst.BinaryOperation) -> ir.Expr:
        # Long sums nest to the left; a loop keeps ten thousand terms off the stack.
        chain: list[cst.BinaryOperation] = []
        current: Any = node
        while isinstance(current, cst.BinaryOperation):
            chain.append(current)
            current = current.left
        out = self.expr(current)
        for item in reversed(chain):
            out = ir.BinOp(*self._at(item), left=out, op=_operator(item.operator), right=self.expr(item.right))
        return out

    def _unary(self, node: cst.UnaryOperation) -> ir.Expr:
        return ir.UnaryOp(*self._at(node), op=_operator(node.operator), operand=self.expr(node.expression))

    def _boolean(self, node: cst.BooleanOperation) -> ir.Expr:
        values = [self.expr(node.left), self.expr(node.right)]
        return ir.BoolOp(*self._at(node), op=_operator(node.operator), values=values)

    def _comparison(self, node: cst.Comparison) -> ir.Expr:
        ops = [_operator(c.operator) for c in node.comparisons]
        right = [self.expr(c.comparator) for c in node.comparisons]
        return ir.Compare(*self._at(node), left=self.expr(node.left), ops=ops, comparators=right)

    def _subscript(self, node: cst.Subscript) -> ir.Expr:
        items = [self._index(e.slice) for e in node.slice]
        index = items[0] if len(items) == 1 else ir.Sequence(*self._at(node), kind="tuple", items=items)
        return ir.Subscript(*self._at(node), value=self.expr(node.value), index=index)

    def _index(self, node: Any) -> ir.Expr:
        if isinstance(node, cst.Slice):
            bounds = [self._maybe(b) for b in (node.lower, node.upper, node.step)]
            return ir.Slice(*self._at(node), lower=bounds[0], upper=bounds[1], step=bounds[2])
        return self.expr(node.value)

    def _sequence(self, node: Any) -> ir.Expr:
        items = [self._element(e) for e in node.elements]
        return ir.Sequence(*self._at(node), kind=type(node).__name__.lower(), items=items)

    def _element(self, node: Any) -> ir.Expr:
        if isinstance(node, cst.StarredElement):
            return ir.Starred(*self._at(node), value=self.expr(node.value))
        return self.expr(node.value)

    def _dict(self, node: cst.Dict) -> ir.Expr:
        keys = [self.expr(e.key) if isinstance(e, cst.DictElement) else None for e in node.elements]
        return ir.Dict(*self._at(node), keys=keys, values=[self.expr(e.value) for e in node.elements])

    def _comp(self, node: Any) -> ir.Expr:
        clauses = []
        clause = node.for_in
        while clause is not None:
            ifs = [self.expr(i.test) for i in clause.ifs]
            clauses.append(ir.CompFor(*self._at(clause), self.expr(clause.target), self.expr(clause.iter), ifs))
            clause = clause.inner_for_in
        is_dict = isinstance(node, cst.DictComp)
        element = self.expr(node.key if is_dict else node.elt)
        value = self.expr(node.value) if is_dict else None
        return ir.Comprehension(*self._at(node), type(node).__name__, element, value, clauses)

    def _ifexp(self, node: cst.IfExp) -> ir.Expr:
        return ir.IfExp(*self._at(node), self.expr(node.test), self.expr(node.body), self.expr(node.orelse))

    def _lambda(self, node: cst.Lambda) -> ir.Expr:
        place = self._at(node)
        body: list[ir.Stmt] = [ir.Return(*self._at(node.body), value=self.expr(node.body))]
        function = ir.Function(*place, "<lambda>", self._params(node.params), body, [], None)
        return ir.Lambda(*place, function=function)

    def _await(self, node: cst.Await) -> ir.Expr:
        return ir.Await(*self._at(node), value=self.expr(node.expression))

    def _yield(self, node: cst.Yield) -> ir.Expr:
        value = node.value.item if isinstance(node.value, cst.From) else node.value
        return ir.Yield(*self._at(node), value=self._maybe(value), delegate=isinstance(node.value, cst.From))

    def _named(self, node: cst.NamedExpr) -> ir.Expr:
        return ir.NamedExpr(*self._at(node), target=self.expr(node.target), value=self.expr(node.value))


@cache
def _is_code(kind: type[cst.CSTNode]) -> bool:
    return issubclass(kind, (cst.BaseSmallStatement, cst.BaseExpression))


def _dotted(node: Any) -> str:
    return f"{_dotted(node.value)}.{node.attr.value}" if isinstance(node, cst.Attribute) else node.value


def _operator(node: Any) -> str:
    name = type(node).__name__
    if name in _NEGATED_OPS:
        return _NEGATED_OPS[name]
    return str(node._get_token()) if not hasattr(node, "value") else str(node.value)


_Handler = Callable[[Lowering, Any], Any]
_L = Lowering
_STATEMENTS: dict[str, _Handler] = {
    "Expr": _L._expr_stmt, "Assign": _L._assign, "AnnAssign": _L._ann_assign, "AugAssign": _L._aug_assign,
    "Return": _L._return, "If": _L._if, "For": _L._for, "While": _L._while, "With": _L._with, "Try": _L._try,
    "TryStar": _L._try, "Match": _L._match, "Raise": _L._raise, "Assert": _L._assert, "Del": _L._del,
    "Import": _L._import, "ImportFrom": _L._import_from, "LazyImport": _L._import, "LazyImportFrom": _L._import_from,
    "Global": _L._global, "Nonlocal": _L._global, "FunctionDef": _L._function, "ClassDef": _L._class,
    "TypeAlias": _L._type_alias,
}  # fmt: skip
_EXPRESSIONS: dict[str, _Handler] = {
    "Name": _L._name, "Attribute": _L._attribute, "Integer": _L._literal, "Float": _L._literal,
    "Imaginary": _L._literal, "SimpleString": _L._literal, "ConcatenatedString": _L._concatenated,
    "FormattedString": _L._fstring, "TemplatedString": _L._fstring, "Call": _L._call,
    "BinaryOperation": _L._binary, "UnaryOperation": _L._unary, "BooleanOperation": _L._boolean,
    "Comparison": _L._comparison, "Subscript": _L._subscript, "Tuple": _L._sequence, "List": _L._sequence,
    "Set": _L._sequence, "Dict": _L._dict, "GeneratorExp": _L._comp, "ListComp": _L._comp, "SetComp": _L._comp,
    "DictComp": _L._comp, "IfExp": _L._ifexp, "Lambda": _L._lambda, "Await": _L._await, "Yield": _L._yield,
    "NamedExpr": _L._named, "StarredElement": _L._element,
}  # fmt: skip
