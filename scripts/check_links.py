# SPDX-License-Identifier: MIT
"""Check the links of README and docs: files and headings have to be there.

Links to other sites are counted, not followed; ``--external`` lists them with where they stand.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import unquote

ROOT: Final = Path(__file__).resolve().parent.parent

_CODE: Final = re.compile(
    r"^(?P<fence>`{3,}|~{3,})[^\n]*\n.*?^(?P=fence)`*[ \t]*$|(?P<ticks>`+)[^`\n]+(?P=ticks)(?!`)",
    re.DOTALL | re.MULTILINE,
)
_LINK: Final = re.compile(r"\]\(<?(?P<to>[^()\s<>]+)>?(?:\s+\"[^\"]*\")?\)")
_BARE: Final = re.compile(r"(?<![(<\w])<(?P<to>https?://[^>\s]+)>")
_HEADING: Final = re.compile(r"^#{1,6} +(?P<title>.+?) *#*$", re.MULTILINE)
_TITLE_LINK: Final = re.compile(r"\[([^\]]*)\]\([^)]*\)")
_NOT_IN_SLUG: Final = re.compile(r"[^\w\- ]")
_ELSEWHERE: Final = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)


class Link(NamedTuple):
    """A link: the document and line in which it stands, and where it leads to."""

    document: Path
    line: int
    target: str

    def __str__(self) -> str:
        """Show it as compilers show places."""
        return f"{self.document}:{self.line}: {self.target}"


def main() -> int:
    """Check all documents; give the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--external", action="store_true", help="list the links to other sites")
    wanted = parser.parse_args()
    found = [link for document in documents(ROOT) for link in links(ROOT, document)]
    external = [link for link in found if _ELSEWHERE.match(link.target)]
    if wanted.external:
        for link in external:
            print(link)
        return 0
    faults = [fault for link in found if (fault := fault_of(ROOT, link))]
    for fault in faults:
        print(fault, file=sys.stderr)
    print(f"{len(found)} links, {len(faults)} broken, {len(external)} to other sites not followed")
    return 1 if faults else 0


def documents(root: Path) -> list[Path]:
    """Give the documents to check, relative to the root."""
    paths = (*root.glob("*.md"), *root.glob("docs/**/*.md"))
    return sorted(path.relative_to(root) for path in paths)


def links(root: Path, document: Path) -> Iterator[Link]:
    """Give every link of a document, but not what code shows."""
    text = _without_code((root / document).read_text("utf-8"))
    for pattern in (_LINK, _BARE):
        for found in pattern.finditer(text):
            yield Link(document, text.count("\n", 0, found.start()) + 1, found["to"])


def fault_of(root: Path, link: Link) -> str:
    """Say what is wrong with a link; nothing with one that leads somewhere, or to other sites."""
    if _ELSEWHERE.match(link.target):
        return ""
    place, _, anchor = link.target.partition("#")
    origin = root / link.document
    target = (origin.parent / unquote(place)).resolve() if place else origin
    if not target.is_relative_to(root) or not target.exists():
        return f"{link}: there is no such file"
    if anchor and target.suffix == ".md" and anchor not in anchors(target.read_text("utf-8")):
        return f"{link}: there is no such heading"
    return ""


def anchors(text: str) -> list[str]:
    """Give the anchors of a document's headings, as GitHub and the built pages make them."""
    seen: dict[str, int] = {}
    found = []
    for heading in _HEADING.finditer(_blank_fences(text)):
        title = _TITLE_LINK.sub(r"\1", heading["title"]).replace("`", "")
        slug = _NOT_IN_SLUG.sub("", title.lower()).replace(" ", "-")
        number = seen.get(slug, 0)
        seen[slug] = number + 1
        found.append(f"{slug}-{number}" if number else slug)
    return found


def _without_code(text: str) -> str:
    """Give the text with code replaced by blanks; lines stay where they are."""
    return _CODE.sub(lambda code: re.sub(r"[^\n]", " ", code[0]), text)


def _blank_fences(text: str) -> str:
    """Give the text without its blocks of code; code in headings stays."""
    return _CODE.sub(lambda code: code[0] if code["ticks"] else "", text)


if __name__ == "__main__":
    sys.exit(main())
