# SPDX-License-Identifier: MIT
"""How Sphinx makes a site of these pages: `make docs`.

The pages are plain Markdown, to be read as they are, too. So the site's contents are not written
down a second time: they are the links of index.md, chapter by chapter.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parent.parent
INIT = (ROOT / "smtpmailer/__init__.py").read_text("utf-8")

project = "smtpmailer"
project_copyright = "the authors of smtpmailer"
release = re.findall(r'^__version__ = "([^"]+)"$', INIT, re.MULTILINE)[0]

# The source is the whole project, so that links lead from page to page as they stand.
root_doc = "docs/index"
include_patterns = ["*.md", "docs/**.md"]
extensions = ["myst_parser", "sphinxcontrib.mermaid"]
myst_fence_as_directive = ["mermaid"]
myst_heading_anchors = 4
# Examples with dots for what is left out are no JSON.
suppress_warnings = ["misc.highlighting_failure"]

html_theme = "furo"
html_title = f"smtpmailer {release}"

_CHAPTER = re.compile(r"^## +(?P<title>.+)\n(?P<body>(?:(?!## ).*\n?)*)", re.MULTILINE)
_LINK = re.compile(r"\]\((?P<page>[^)#:]+)\.md\)")


def setup(app: Sphinx) -> None:
    """Let index.md be the table of contents."""
    app.connect("source-read", add_contents)


def add_contents(_app: Sphinx, page: str, source: list[str]) -> None:
    """Add what the side bar shows to the page of contents."""
    if page == root_doc:
        source[0] += "".join(map(_contents, _CHAPTER.finditer(source[0])))


def _contents(chapter: re.Match[str]) -> str:
    pages = "\n".join(found["page"] for found in _LINK.finditer(chapter["body"]))
    return f"\n```{{toctree}}\n:hidden:\n:caption: {chapter['title']}\n\n{pages}\n```\n"
