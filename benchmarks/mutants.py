"""Small faults put into a module's source, one at a time: what a test that means something must notice."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass

COMPARED: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE), ast.LtE: (ast.Lt, ast.Gt), ast.Gt: (ast.GtE, ast.LtE), ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,), ast.NotIn: (ast.In,),
}  # fmt: skip
COMPUTED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr, ast.LShift: ast.RShift,
}  # fmt: skip
CALLED = {"max": "min", "min": "max", "any": "all", "all": "any"}
OUTCOMES = ("ALLOW", "REVIEW", "BLOCK", "ERROR")
# Messages, types and imports are not behaviour; `strict` only ever guards against what was checked before.
LEFT_OUT = (ast.Import, ast.ImportFrom, ast.JoinedStr)
LEFT_OUT_KEYWORDS = {"strict"}


@dataclass(frozen=True)
class Mutant:
    """One fault: where it is and what is changed; `apply` changes the tree that it was found in."""

    line: int
    where: str
    change: str
    apply: Callable[[], None]


def mutants(tree: ast.Module) -> list[Mutant]:
    """Every fault of a module, in the order of its source."""
    return list(_of_body(tree, ""))


def _of_body(node: ast.AST, where: str) -> Iterator[Mutant]:
    for field, value in ast.iter_fields(node):
        if field in {"annotation", "returns", "decorator_list", "type_comment", "bases"}:
            continue
        entries = value if isinstance(value, list) else [value]
        for index, child in enumerate(entries):
            if not isinstance(child, ast.AST) or _left_out(child):
                continue
            yield from _at(node, field, index if isinstance(value, list) else None, child, where)
            inner = where
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                inner = f"{where}.{child.name}".lstrip(".")
            if not isinstance(child, ast.Raise):  # its message; the statement itself may be deleted
                yield from _of_body(child, inner)


def _left_out(node: ast.AST) -> bool:
    if isinstance(node, LEFT_OUT) or (isinstance(node, ast.keyword) and node.arg in LEFT_OUT_KEYWORDS):
        return True
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
        return True
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return True  # a docstring
    if isinstance(node, ast.Assign) and ast.unparse(node.value).startswith(("logging.getLogger", "TypeVar")):
        return True
    return isinstance(node, ast.Expr) and ast.unparse(node.value).startswith(("log.", "_log.", "logging."))


def _at(parent: ast.AST, field: str, index: int | None, node: ast.AST, where: str) -> Iterator[Mutant]:
    """The faults that stand for one node."""

    def put(new: ast.AST) -> Callable[[], None]:
        def apply() -> None:
            ast.copy_location(new, node)
            ast.fix_missing_locations(new)
            if index is None:
                setattr(parent, field, new)
            else:
                getattr(parent, field)[index] = new

        return apply

    for new in _others(node, parent, field):
        old, result = _short(node), "nothing" if isinstance(new, ast.Pass) else _short(new)
        yield Mutant(getattr(node, "lineno", 0), where, f"{old} -> {result}", put(new))


def _others(node: ast.AST, parent: ast.AST, field: str) -> Iterator[ast.AST]:
    """What may stand in for a node."""
    if isinstance(node, ast.expr):
        yield from _expressions(node)
        if (isinstance(parent, (ast.If, ast.IfExp)) and field == "test") or field == "ifs":
            yield from (ast.Constant(True), ast.Constant(False))
        if isinstance(parent, ast.While) and field == "test":
            yield ast.Constant(False)
    elif isinstance(node, ast.Return) and node.value is not None and ast.unparse(node.value) != "None":
        yield ast.Return(ast.Constant(None))
    elif isinstance(node, (ast.Raise, ast.Expr, ast.AugAssign, ast.Continue, ast.Break)) or (
        # A name that is not set is a NameError in any test: that would only flatter the count.
        isinstance(node, ast.Assign) and not isinstance(node.targets[0], (ast.Name, ast.Tuple))
    ):
        yield ast.Pass()


def _expressions(node: ast.expr) -> Iterator[ast.expr]:
    match node:
        case ast.Compare():
            for i, op in enumerate(node.ops):
                for other in COMPARED.get(type(op), ()):
                    yield ast.Compare(node.left, [*node.ops[:i], other(), *node.ops[i + 1 :]], node.comparators)
        case ast.BoolOp():
            yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
            for i in range(len(node.values)):
                rest = [*node.values[:i], *node.values[i + 1 :]]
                yield ast.BoolOp(node.op, rest) if len(rest) > 1 else rest[0]
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield node.operand
        case ast.BinOp() if type(node.op) in COMPUTED:
            yield ast.BinOp(node.left, COMPUTED[type(node.op)](), node.right)
        case ast.Constant():
            yield from _constants(node.value)
        case ast.Attribute(attr=member) if member in OUTCOMES and ast.unparse(node.value) == "Outcome":
            yield from (ast.Attribute(node.value, other, node.ctx) for other in OUTCOMES if other != member)
        case ast.Call(func=ast.Name(id=name)) if name in CALLED:
            yield ast.Call(ast.Name(CALLED[name], ast.Load()), node.args, node.keywords)


def _constants(value: object) -> Iterator[ast.expr]:
    if isinstance(value, bool):
        yield ast.Constant(not value)
    elif isinstance(value, (int, float)):
        yield ast.Constant(value + 1)
        yield ast.Constant(value - 1)
    elif isinstance(value, str) and value and " " not in value:
        yield ast.Constant("")


def _short(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 90 else f"{text[:60]} ... {text[-25:]}"
