# SPDX-License-Identifier: MIT
"""Figures of several processes as one text, in Prometheus's text format (version 0.0.4)."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["merged"]


def merged(texts: Mapping[str, str]) -> str:
    """Put the figures of processes together, by name; each sample is labelled with its ``process``.

    All samples of a family stand together, below what is said about it, as the format wants it.
    """
    families: dict[str, tuple[list[str], list[str]]] = {}
    for process, text in texts.items():
        about: list[str] = []
        samples: list[str] = []
        for line in text.splitlines():
            if line.startswith("# HELP "):
                # A family begins with its meaning.
                name = line.split(" ", 3)[2]
                about, samples = families.setdefault(name, ([], []))
            if not line.startswith("#"):
                samples.append(_labelled(line, process))
            elif line not in about:
                about.append(line)
    return "".join(
        f"{line}\n" for about, samples in families.values() for line in (*about, *samples)
    )


def _labelled(sample: str, process: str) -> str:
    name, brace, rest = sample.partition("{")
    label = f'process="{process}"'
    if brace:
        return f"{name}{{{label},{rest}"
    name, _, value = sample.partition(" ")
    return f"{name}{{{label}}} {value}"
