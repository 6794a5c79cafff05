# SPDX-License-Identifier: MIT
"""Draw a terminal session of the documentation as an SVG picture.

In the document the comment ``<!-- picture: FILE -->`` stands before the block to draw. What the
block says is what the commands print: tests/integration/test_tutorial.py runs them.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

ROOT: Final = Path(__file__).resolve().parent.parent
DOCUMENT: Final = ROOT / "docs/tutorial/first-mail.md"

_MARKED: Final = re.compile(
    r"^<!-- picture: (?P<file>\S+) -->\n\n```console\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE
)

#: Pixels: a character's width and a line's height at this font size, and the window's edges.
_SIZE: Final = 14
_WIDTH: Final = 8.43
_HEIGHT: Final = 21
_EDGE: Final = 20
_BAR: Final = 36

_SVG: Final = "http://www.w3.org/2000/svg"
_FONT: Final = "ui-monospace, 'DejaVu Sans Mono', 'Liberation Mono', Menlo, Consolas, monospace"
_COLOURS: Final = {"prompt": "#7ee787", "command": "#f0f6fc", "output": "#a9b4c0"}
_BUTTONS: Final = ("#ff5f57", "#febc2e", "#28c840")


def main() -> int:
    """Draw each picture that the document asks for."""
    for name, picture in pictures(DOCUMENT.read_text("utf-8")).items():
        (ROOT / name).parent.mkdir(exist_ok=True)
        (ROOT / name).write_text(picture, "utf-8")
        print(f"wrote {name}")
    return 0


def pictures(document: str) -> dict[str, str]:
    """Give the SVG of each block to draw, by the file that it goes to."""
    return {found["file"]: draw(found["text"]) for found in _MARKED.finditer(document)}


def draw(session: str) -> str:
    """Draw a session: lines behind ``$`` are commands, the others what they printed."""
    lines = session.rstrip("\n").split("\n")
    width = round(max(map(len, lines)) * _WIDTH) + 2 * _EDGE
    height = _BAR + len(lines) * _HEIGHT + _EDGE
    first = next((line for line in lines if line), "")
    size = f'width="{width}" height="{height}"'
    parts = [
        f'<svg xmlns="{_SVG}" viewBox="0 0 {width} {height}" {size} role="img">',
        f"<title>{escape(first)}</title>",
        f'<rect {size} rx="10" fill="#0d1117"/>',
        *(
            f'<circle cx="{_EDGE + 20 * at}" cy="18" r="6" fill="{colour}"/>'
            for at, colour in enumerate(_BUTTONS)
        ),
        f'<g font-family="{_FONT}" font-size="{_SIZE}" xml:space="preserve">',
        *(_line(text, _BAR + _HEIGHT * at + _SIZE) for at, text in enumerate(lines) if text),
        "</g>",
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _line(text: str, y: int) -> str:
    """Draw a line; its length is told, so that columns stand below each other in any font."""
    length = f'textLength="{len(text) * _WIDTH:.1f}" lengthAdjust="spacingAndGlyphs"'
    spans = _span("output", text)
    if text.startswith("$ "):
        spans = _span("prompt", "$ ") + _span("command", text[2:])
    return f'<text x="{_EDGE}" y="{y}" {length}>{spans}</text>'


def _span(kind: str, text: str) -> str:
    return f'<tspan fill="{_COLOURS[kind]}">{escape(text)}</tspan>'


if __name__ == "__main__":
    sys.exit(main())
