# SPDX-License-Identifier: MIT
"""Check JSON values against our JSON Schemas and word the faults as the API does.

A compiled validator (jsonschema-rs) says quickly that a value is valid. Only when it is not, the
walker below looks for the faults. Compat: the predecessor used opis/json-schema, which stops at
the first keyword of a schema that fails, in the order of ``_KEYWORDS``: type first, then required,
then properties (all of them), and only then additionalProperties and the alternatives. Each schema
of ours that has a keyword for one type also names that type, so the keywords need not look again.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Final

import jsonschema_rs

from smtpmailer.core.addresses import is_address

__all__ = ["FORMATS", "Schema", "is_host", "type_name"]

#: So many faults and names are shown; the answer to a large request stays small.
_MAX_SHOWN: Final = 100

_LABEL: Final = r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)"
_HOST_NAME: Final = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*", re.ASCII)
_CONTROL_NAMES: Final = {"\r": "CR", "\n": "LF", "\0": "NUL"}

_Path = tuple[str | int, ...]
_Fault = tuple[_Path, str]
_Check = Callable[[Any, Any, _Path], Iterable[_Fault]]


def is_host(text: str) -> bool:
    """Whether ``text`` is a host name (RFC 1123 section 2.1) or an IP address without zone."""
    if _HOST_NAME.fullmatch(text):
        return True
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text


FORMATS: Final[Mapping[str, Callable[[str], bool]]] = {"email": is_address, "hostname": is_host}


class Schema:
    """One schema, compiled; ``$ref`` may point into its own ``$defs`` only."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        """Compile ``document``, a JSON Schema 2020-12 (one of our own files, trusted)."""
        self._fast = jsonschema_rs.Draft202012Validator(
            dict(document), formats=dict(FORMATS), validate_formats=True
        )
        self._schema = _inline(document, document.get("$defs", {}))

    def faults(self, value: Any) -> dict[str, list[str]]:
        """Give every fault shown, by path, in order; empty when ``value`` is valid.

        A path joins keys and indexes with ``->``; the value itself is ``payload``.
        """
        if self._fast.is_valid(value):
            return {}
        shown: dict[str, list[str]] = {}
        for path, message in islice(_walk(self._schema, value, ()), _MAX_SHOWN):
            shown.setdefault("->".join(map(str, path)) or "payload", []).append(message)
        return shown


def type_name(value: Any) -> str:
    """Name a JSON value's type; a number without fraction is an integer."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "integer" if value == value // 1 else "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def _inline(schema: Any, definitions: Mapping[str, Any]) -> Any:
    """Put definitions in place of the references to them."""
    if isinstance(schema, list):
        return [_inline(item, definitions) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    merged = dict(schema)
    name = merged.pop("$ref", None)
    if name is not None:
        merged = {**definitions[name.removeprefix("#/$defs/")], **merged}
    flat = {key: _inline(item, definitions) for key, item in merged.items()}
    if "additionalProperties" in flat:
        known = frozenset(flat.get("properties", ()))
        flat["additionalProperties"] = (known, flat["additionalProperties"])
    return flat


def _walk(schema: Mapping[str, Any], value: Any, path: _Path) -> Iterator[_Fault]:
    """Give the faults of the first keyword that fails, and no others."""
    for keyword, check in _KEYWORDS.items():
        if keyword in schema:
            faults = iter(check(schema[keyword], value, path))
            first = next(faults, None)
            if first is not None:
                yield first
                yield from faults
                return


def _is_valid(schema: Mapping[str, Any], value: Any) -> bool:
    return next(_walk(schema, value, ()), None) is None


def _type(wanted: Any, value: Any, path: _Path) -> Iterator[_Fault]:
    found, allowed = type_name(value), [wanted] if isinstance(wanted, str) else wanted
    if found not in allowed and not (found == "integer" and "number" in allowed):
        yield path, f"The data ({found}) must match the type: {', '.join(allowed)}"


def _enum(allowed: Any, value: Any, path: _Path) -> Iterator[_Fault]:
    if value not in allowed:
        yield path, "The data should match one item from enum"


def _min_length(limit: int, value: Any, path: _Path) -> Iterator[_Fault]:
    if len(value) < limit:
        yield path, f"Minimum string length is {limit}, found {len(value)}"


def _max_length(limit: int, value: Any, path: _Path) -> Iterator[_Fault]:
    if len(value) > limit:
        yield path, f"Maximum string length is {limit}, found {len(value)}"


def _not(schema: Any, value: Any, path: _Path) -> Iterator[_Fault]:
    if "pattern" in schema:
        found = re.search(schema["pattern"], value)
        if found:
            name, where = _CONTROL_NAMES[found.group()], found.start() + 1
            yield path, f"The data must not contain CR, LF or NUL: {name} at character {where}"
    elif _is_valid(schema, value):
        yield path, f"Only one of these is allowed: {', '.join(schema['required'])}"


def _format(name: str, value: Any, path: _Path) -> Iterator[_Fault]:
    if not FORMATS[name](value):
        yield path, f"The data must match the '{name}' format"


def _minimum(limit: int, value: Any, path: _Path) -> Iterator[_Fault]:
    if value < limit:
        yield path, f"Number must be greater than or equal to {limit}"


def _maximum(limit: int, value: Any, path: _Path) -> Iterator[_Fault]:
    if value > limit:
        yield path, f"Number must be lower than or equal to {limit}"


def _min_items(limit: int, value: Any, path: _Path) -> Iterator[_Fault]:
    if len(value) < limit:
        yield path, f"Array should have at least {limit} items, {len(value)} found"


def _max_items(limit: int, value: Any, path: _Path) -> Iterator[_Fault]:
    if len(value) > limit:
        yield path, f"Array should have at most {limit} items, {len(value)} found"


def _prefix_items(schemas: Any, value: Any, path: _Path) -> Iterator[_Fault]:
    for index, (schema, item) in enumerate(zip(schemas, value, strict=False)):
        yield from _walk(schema, item, (*path, index))


def _items(schema: Any, value: Any, path: _Path) -> Iterator[_Fault]:
    for index, item in enumerate(value):
        yield from _walk(schema, item, (*path, index))


def _min_properties(limit: int, value: Any, path: _Path) -> Iterator[_Fault]:
    if len(value) < limit:
        yield path, f"Object must have at least {limit} properties, {len(value)} found"


def _required(names: Any, value: Any, path: _Path) -> Iterator[_Fault]:
    missing = [name for name in names if name not in value]
    if missing:
        yield path, f"The required properties ({', '.join(missing)}) are missing"


def _properties(schemas: Any, value: Any, path: _Path) -> Iterator[_Fault]:
    for name, schema in schemas.items():
        if name in value:
            yield from _walk(schema, value[name], (*path, name))


def _additional(rule: Any, value: Any, path: _Path) -> Iterator[_Fault]:
    """``rule`` is the names known besides and the schema of the others, or False."""
    known, schema = rule
    others = [name for name in value if name not in known]
    if schema is not False:
        for name in others:
            yield from _walk(schema, value[name], (*path, name))
    elif others:
        more = ", ..." if len(others) > _MAX_SHOWN else ""
        names = ", ".join(others[:_MAX_SHOWN]) + more
        yield path, f"Additional object properties are not allowed: {names}"


def _any_of(schemas: Any, value: Any, path: _Path) -> Iterator[_Fault]:
    """Give the faults of every alternative when none fits."""
    if not any(_is_valid(schema, value) for schema in schemas):
        for schema in schemas:
            yield from _walk(schema, value, path)


def _one_of(schemas: Any, value: Any, path: _Path) -> Iterator[_Fault]:
    if sum(_is_valid(schema, value) for schema in schemas) != 1:
        yield path, "The data should match exactly one schema"


_KEYWORDS: Final[Mapping[str, _Check]] = {
    "type": _type,
    "enum": _enum,
    "minLength": _min_length,
    "maxLength": _max_length,
    "not": _not,
    "format": _format,
    "minimum": _minimum,
    "maximum": _maximum,
    "minItems": _min_items,
    "maxItems": _max_items,
    "prefixItems": _prefix_items,
    "items": _items,
    "minProperties": _min_properties,
    "required": _required,
    "properties": _properties,
    "additionalProperties": _additional,
    "anyOf": _any_of,
    "oneOf": _one_of,
}
