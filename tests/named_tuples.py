"""Finds NamedTuples that source code takes apart by position instead of by field.

A field added in the middle of a NamedTuple must not shift another one, so that slices
of it and unpacking are faults. What is a NamedTuple is read from tables of arguments,
annotations, docstrings, calls and fields, and from names that mean nothing else.
"""

import ast
import re

# Where nothing else tells, these names are those of NamedTuples.
_NAMES = {"index", "_index", "block", "image", "lists", "scratch"}

_UNKNOWN = "NamedTuple"


class Package:
    """The NamedTuples of some source files, and the functions that return one.

    Parameters
    ----------
    sources : iterable of str
        All files in which NamedTuples are defined, made or used.
    """

    def __init__(self, sources):
        sources = list(sources)
        self._fields, self._returns = {}, {}
        for source in sources:
            for node in ast.walk(ast.parse(source)):
                if isinstance(node, ast.ClassDef) and _is_named_tuple(node):
                    self._fields[node.name] = {
                        item.target.id: ast.unparse(item.annotation)
                        for item in node.body
                        if isinstance(item, ast.AnnAssign)
                    }
        # What a function returns may come from a function that is found later.
        for _ in range(3):
            for source in sources:
                for function, kinds in self._functions(source):
                    for node in _own_nodes(function):
                        if isinstance(node, ast.Return) and node.value is not None:
                            kind = self._kind(node.value, kinds)
                            if kind not in (None, _UNKNOWN):
                                self._returns[function.name] = kind

    def positional_uses(self, source):
        """The faults of a file: lines and what stands there."""
        found = set()
        for function, kinds in self._functions(source):
            for node in _own_nodes(function):
                for fault in self._faults(node, kinds):
                    found.add((fault.lineno, ast.unparse(fault)))
        return sorted(found)

    def _faults(self, node, kinds):
        if isinstance(node, ast.Subscript) and _is_positional(node.slice):
            if self._kind(node.value, kinds):
                yield node
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                if self._is_unpacked(target, node.value, kinds):
                    yield node

    def _is_unpacked(self, target, value, kinds):
        if not isinstance(target, ast.Tuple | ast.List):
            return False
        if not isinstance(value, ast.Tuple | ast.List):
            return bool(self._kind(value, kinds))
        starred = [item.value for item in value.elts if isinstance(item, ast.Starred)]
        if starred:
            return any(self._kind(item, kinds) for item in starred)
        pairs = zip(target.elts, value.elts, strict=False)
        return any(self._is_unpacked(*pair, kinds) for pair in pairs)

    def _kind(self, node, kinds):
        """The class of an expression, if it is a NamedTuple."""
        if isinstance(node, ast.Name):
            return kinds.get(node.id, _UNKNOWN if node.id in _NAMES else None)
        if isinstance(node, ast.Attribute):
            of = self._kind(node.value, kinds)
            if of in self._fields and node.attr in self._fields[of]:
                return self._named(self._fields[of][node.attr])
            return _UNKNOWN if node.attr in _NAMES else None
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", None))
            if name == "_replace":
                return self._kind(node.func.value, kinds)
            return name if name in self._fields else self._returns.get(name)
        if isinstance(node, ast.IfExp):
            return self._kind(node.body, kinds) or self._kind(node.orelse, kinds)
        return None

    def _named(self, text):
        """The first of the classes that a text names."""
        return next((w for w in re.findall(r"\w+", text) if w in self._fields), None)

    def _functions(self, source):
        """All functions, and the module itself, with the kinds of their variables."""
        module = ast.parse(source)
        yield module, {}
        yield from self._functions_within(module, {}, source.splitlines())

    def _functions_within(self, parent, kinds, lines):
        for node in _own_nodes(parent):
            if isinstance(node, ast.FunctionDef):
                inner = self._kinds_in(node, kinds, lines)
                yield node, inner
                yield from self._functions_within(node, inner, lines)

    def _kinds_in(self, function, kinds, lines):
        kinds, docstring = dict(kinds), ast.get_docstring(function) or ""
        args = function.args
        for arg in (*args.posonlyargs, *args.args, *args.kwonlyargs):
            comment = lines[arg.lineno - 1].partition("#")[2]
            documented = re.search(rf"^{arg.arg} : (.*)$", docstring, re.MULTILINE)
            annotated = ast.unparse(arg.annotation) if arg.annotation else ""
            of_docstring = documented.group(1) if documented else ""
            if kind := self._named(f"{annotated} {comment} {of_docstring}"):
                kinds[arg.arg] = kind
            elif arg.arg not in _NAMES:
                kinds.pop(arg.arg, None)
        for node in _own_nodes(function):
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    kinds.update(self._assigned(target, node.value, kinds))
        return kinds

    def _assigned(self, target, value, kinds):
        if isinstance(target, ast.Name):
            if kind := self._kind(value, kinds):
                yield target.id, kind
        elif isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            for pair in zip(target.elts, value.elts, strict=False):
                yield from self._assigned(*pair, kinds)


def _is_named_tuple(node):
    return any("NamedTuple" in ast.unparse(base) for base in node.bases)


def _is_positional(index):
    if isinstance(index, ast.UnaryOp):
        index = index.operand
    is_number = isinstance(index, ast.Constant) and isinstance(index.value, int)
    return is_number or isinstance(index, ast.Slice)


def _own_nodes(function):
    """The nodes of a function in their order; functions within, but not their nodes."""
    pending = list(ast.iter_child_nodes(function))
    while pending:
        node = pending.pop(0)
        yield node
        if not isinstance(node, ast.FunctionDef):
            pending[:0] = ast.iter_child_nodes(node)
