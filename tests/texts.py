# SPDX-License-Identifier: MIT
"""The texts that the service can show to people, as patterns: answers, reasons, lines of the log.

They are read from the source's syntax, so a new one can't be forgotten. What is put into a text
stands for anything.
"""

from __future__ import annotations

import ast
import functools
import importlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, TypeVar

import attrs

from smtpmailer import errors

__all__ = ["Text", "answers", "log_lines", "reasons", "start_warnings"]

ROOT: Final = Path(__file__).resolve().parent.parent
_PACKAGE: Final = ROOT / "smtpmailer"

#: What speaks to people in its own words: no part of the service.
_NOT_THE_SERVICE: Final = ("cli", "trap", "client")

#: Calls that make an answer, and which of their arguments are texts of it.
_ANSWERING: Final = {
    "error": (0, 1),
    "broken": (0,),
    "_outcome": (2,),
    "_change": (3,),
    "_refusal": (1,),
    "mail": (2,),
}

#: Errors of clients whose texts are for the log, or for the command.
_SILENT: Final = frozenset(
    {"BusyError", "NoSuchMailError", "NotAllowedError", "ServiceAnswerError"}
)

_LOGGERS: Final = frozenset({"_log", "log", "factory"})
_LEVELS: Final = frozenset({"warn", "error", "critical", "failure"})

#: A text needs so many letters of its own to be looked for.
_LETTERS: Final = 6

_Node = TypeVar("_Node", bound=ast.AST)
_Function = ast.FunctionDef | ast.AsyncFunctionDef


@attrs.frozen
class Text:
    """A text, with ``None`` for each part that is put in, and where it stands."""

    parts: tuple[str | None, ...]
    where: str

    def pattern(self) -> re.Pattern[str]:
        """Give what matches it, whatever is put in; a reason may stand behind what it is about."""
        words = ("[^`]*" if part is None else re.escape(part) for part in self.parts)
        return re.compile(f"(?:[^`]*: )?{''.join(words)}")

    def __str__(self) -> str:
        """Show it with dots for what is put in."""
        return "".join("..." if part is None else part for part in self.parts)


def answers() -> Iterator[Text]:
    """Give each text that an answer may hold as its message, or in its data."""
    for module, call, scope in _calls():
        yield from module.texts(_arguments(call, errors.ClientError), scope)
    for module in _modules():
        if module.path.name == "dispatcher.py":
            yield from module.texts([n.value for n in module.every(ast.Return) if n.value], {})
        if module.path.name == "errors.py":
            yield from module.texts(list(_own_words(module)), {})


def reasons() -> Iterator[Text]:
    """Give each text that says why a mail server did not take a mail."""
    for module, call, scope in _calls():
        if _name_of(call.func) not in (*_ANSWERING, "ListWords"):
            yield from module.texts(_arguments(call, errors.RemoteError), scope)


def log_lines() -> Iterator[Text]:
    """Give each line that the service may log at level warning or error."""
    for module, call, scope in _calls():
        function = call.func
        if isinstance(function, ast.Attribute) and _name_of(function.value) in _LOGGERS:
            formats = call.args[:1] if function.attr in _LEVELS else []
            formats = call.args[1:2] if function.attr == "emit" else formats
            yield from module.texts(formats, scope, fields=True)


def start_warnings() -> Iterator[Text]:
    """Give each warning about settings."""
    for module in _modules():
        if module.path.parent.name == "core" and module.path.stem.startswith("settings"):
            yield from module.texts([n.value for n in module.every(ast.Yield) if n.value], {})


def _arguments(call: ast.Call, kind: type[Exception]) -> list[ast.expr]:
    """Give the arguments of a call that are texts: it makes an answer, or an error of a kind."""
    name = _name_of(call.func)
    if isinstance(call.func, ast.Attribute) and _name_of(call.func.value) in _LOGGERS:
        return []
    if name == "ListWords":
        return [word.value for word in call.keywords if word.arg == "refused"]
    if name in _ANSWERING:
        return [call.args[at] for at in _ANSWERING[name] if at < len(call.args)]
    made = getattr(errors, name, None)
    if isinstance(made, type) and issubclass(made, kind) and name not in _SILENT:
        return list(call.args)
    return []


def _own_words(module: _Module) -> Iterator[ast.expr]:
    """Give the texts that errors of clients word themselves."""
    for each in module.every(ast.ClassDef):
        if issubclass(getattr(errors, each.name), errors.ClientError) and each.name not in _SILENT:
            for call in (n for n in ast.walk(each) if isinstance(n, ast.Call)):
                if _name_of(call.func) == "__init__":
                    yield from call.args


#: What the variables of a function may be.
_Scope = dict[str, list[ast.expr]]


@attrs.frozen
class _Module:
    path: Path
    nodes: tuple[ast.AST, ...] = attrs.field(repr=False)

    def every(self, kind: type[_Node]) -> list[_Node]:
        """Give all parts of the module of a kind."""
        return [node for node in self.nodes if isinstance(node, kind)]

    def calls(self) -> Iterator[tuple[ast.Call, _Scope]]:
        """Give each call, with the variables of the function that it stands in."""
        seen: set[ast.Call] = set()
        functions: list[_Function] = [*self.every(ast.FunctionDef)]
        functions += self.every(ast.AsyncFunctionDef)
        for function in functions:
            variables = _variables(function)
            for node in ast.walk(function):
                if isinstance(node, ast.Call) and node not in seen:
                    seen.add(node)
                    yield node, variables
        for node in self.every(ast.Call):
            if node not in seen:
                yield node, {}

    def texts(
        self, values: Sequence[ast.expr], scope: _Scope, *, fields: bool = False
    ) -> Iterator[Text]:
        """Give the texts among these values; with ``fields`` what braces hold is put in."""
        for value in values:
            for parts in self._parts(value, scope):
                cut = tuple(piece for part in parts for piece in _cut(part, fields=fields))
                if sum(char.isalpha() for part in cut if part for char in part) >= _LETTERS:
                    yield Text(cut, f"{self.path.relative_to(ROOT)}:{value.lineno}")

    def _parts(self, value: ast.expr, scope: _Scope) -> list[tuple[str | None, ...]]:
        """Give what a value may be as a text; nothing for what is none."""
        if isinstance(value, ast.Constant):
            return [(value.value,)] if isinstance(value.value, str) else []
        if isinstance(value, ast.JoinedStr):
            return self._joined(value.values, scope)
        if isinstance(value, ast.BinOp) and isinstance(value.op, ast.Add):
            return self._joined([value.left, value.right], scope)
        if isinstance(value, ast.FormattedValue):
            return self._parts(value.value, scope)
        if isinstance(value, ast.Name):
            known = getattr(self._imported(), value.id, None)
            if isinstance(known, str):
                return [(known,)]
            return [each for one in scope.get(value.id, []) for each in self._parts(one, {})]
        return []

    def _joined(self, values: Sequence[ast.expr], scope: _Scope) -> list[tuple[str | None, ...]]:
        found: list[tuple[str | None, ...]] = [()]
        for value in values:
            pieces = self._parts(value, scope) or [(None,)]
            found = [one + piece for one in found for piece in pieces]
        return found

    def _imported(self) -> object:
        return importlib.import_module(
            ".".join(self.path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        )


@functools.cache
def _modules() -> tuple[_Module, ...]:
    paths = sorted(_PACKAGE.rglob("*.py"))
    return tuple(
        _Module(path, tuple(ast.walk(ast.parse(path.read_text("utf-8")))))
        for path in paths
        if not path.relative_to(_PACKAGE).parts[0].startswith(_NOT_THE_SERVICE)
    )


@functools.cache
def _calls() -> tuple[tuple[_Module, ast.Call, _Scope], ...]:
    return tuple((module, *found) for module in _modules() for found in module.calls())


def _variables(function: _Function) -> _Scope:
    scope: _Scope = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            scope.setdefault(node.targets[0].id, []).append(node.value)
    return scope


def _name_of(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _cut(part: str | None, *, fields: bool) -> Iterator[str | None]:
    """Cut a format at its fields."""
    if part is None or not fields:
        yield part
        return
    for at, piece in enumerate(re.split(r"\{[^}]*\}", part)):
        if at:
            yield None
        if piece:
            yield piece
