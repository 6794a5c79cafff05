# SPDX-License-Identifier: MIT
"""The dependency rule: arrows between the parts point one way."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

PACKAGE = Path(__file__).parent.parent / "smtpmailer"

#: What the modules under each prefix may import of ours; the longest prefix counts.
ALLOWED = {
    "core": ("core", "errors"),
    "errors": (),
    "coroutines": (),
    "interfaces": ("core", "errors"),
    "services": ("services", "interfaces", "core", "errors", "coroutines"),
    "dispatcher": ("interfaces", "core", "errors", "coroutines"),
    "protocol": ("connection", "moving", "pipeline", "census", "interfaces", "core", "errors"),
    "moving": ("connection",),
    "switch": ("interfaces", "core", "errors"),
    "connection": ("pipeline", "alarm", "outlet", "interfaces", "core", "errors"),
    "census": ("core", "errors"),
    "tlsport": ("core", "errors"),
    "reloading": ("errors",),
    "smallfiles": (),
    "pipeline": ("interfaces", "core", "errors"),
    "alarm": (),
    "outlet": (),
    "processes": (
        "processes",
        "configuration",
        "protocol",
        "moving",
        "core",
        "errors",
        "coroutines",
    ),
    "root": ("processes", "lifecycle", "core", "errors"),
    "signals": (),
    "lookout": ("interfaces", "errors", "coroutines"),
    "runner": ("alarm", "services", "interfaces", "core", "errors", "coroutines"),
    "threads": ("interfaces", "errors"),
    "client": ("client_attempts", "client_common", "errors"),
    "client_asyncio": ("client_attempts", "client_common", "errors"),
    "client_attempts": ("client_common", "errors"),
    "client_common": ("errors",),
    "client_twisted": ("client_attempts", "client_common", "coroutines", "errors"),
    "stores": ("stores", "interfaces", "core", "errors", "coroutines", "threads"),
    "delivery": (
        "delivery",
        "alarm",
        "outlet",
        "smallfiles",
        "interfaces",
        "core",
        "errors",
        "coroutines",
    ),
}
#: What the core never imports: it has no I/O, clock or randomness.
WORLD = {"os", "socket", "time", "random", "secrets", "pathlib", "threading", "twisted", "io"}
#: Parts of those that touch nothing.
PURE = {"pathlib.PurePosixPath"}


def imports(path: Path) -> Iterator[str]:
    """Give the dotted name of every import in a file, wherever it stands."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules() -> Iterator[tuple[str, Path]]:
    """Give each module's dotted name inside the package, and its file."""
    for path in sorted(PACKAGE.rglob("*.py")):
        yield ".".join(path.relative_to(PACKAGE).with_suffix("").parts), path


class LayeringTests(SynchronousTestCase):
    """Each import follows the rule."""

    def test_arrows_point_one_way(self) -> None:
        for name, path in modules():
            allowed = ALLOWED.get(name.partition(".")[0])
            if allowed is None:
                continue
            for target in imports(path):
                if target.startswith("smtpmailer."):
                    part = target.split(".")[1]
                    self.assertIn(part, (*allowed, "__version__"), f"{name} imports {target}")

    def test_the_core_touches_nothing_of_the_world(self) -> None:
        for name, path in modules():
            if name.startswith("core."):
                targets = set(imports(path)) - PURE
                roots = {target.partition(".")[0] for target in targets}
                self.assertFalse(roots & WORLD, f"{name} imports {roots & WORLD}")

    def test_only_the_composition_root_and_commands_import_the_reactor(self) -> None:
        for name, path in modules():
            if name != "tap" and not name.startswith("cli."):
                self.assertNotIn("twisted.internet.reactor", set(imports(path)), name)
