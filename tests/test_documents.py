# SPDX-License-Identifier: MIT
"""What the documentation promises of itself: nothing is missing, nothing leads nowhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

from twisted.trial.unittest import SynchronousTestCase

from scripts.check_links import documents, fault_of, links
from scripts.make_picture import draw, pictures
from tests.texts import Text, answers, log_lines, reasons, start_warnings

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"

_SVG = "{http://www.w3.org/2000/svg}"

_CODE = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)")


class TroubleshootTests(SynchronousTestCase):
    """Whatever the service says can be looked up."""

    def setUp(self) -> None:
        super().setUp()
        text = (DOCS / "how-to/troubleshoot.md").read_text("utf-8")
        self.told = [code.strip() for _, code in _CODE.findall(text)]

    def missing(self, texts: Iterator[Text]) -> list[str]:
        """Give the texts that can't be found, with where they stand in the source."""
        return sorted({f"{text} ({text.where})" for text in texts if not self.is_told(text)})

    def is_told(self, text: Text) -> bool:
        """Whether the page shows this text."""
        pattern = text.pattern()
        return any(pattern.fullmatch(told) for told in self.told)

    def test_every_text_of_an_answer_is_explained(self) -> None:
        self.assertEqual(self.missing(answers()), [])

    def test_every_reason_why_a_mail_is_not_delivered_is_explained(self) -> None:
        self.assertEqual(self.missing(reasons()), [])

    def test_every_warning_and_error_of_the_log_is_explained(self) -> None:
        self.assertEqual(self.missing(log_lines()), [])

    def test_every_warning_about_settings_is_explained(self) -> None:
        self.assertEqual(self.missing(start_warnings()), [])

    def test_the_source_s_texts_are_found(self) -> None:
        found = {str(text) for text in (*answers(), *reasons(), *log_lines(), *start_warnings())}
        known = {
            "failed to add mail to queue",
            "could not attach ...: ...",
            "at most ... connections (MAILER_MAX_CONNECTIONS)",
            "the server does not offer STARTTLS (SMTP_ENCRYPTION)",
            "Redis is away: ...",
            "SMTP_TLS_VERIFY is off: anybody can pose as the SMTP server",
        }
        self.assertEqual(known - found, set())
        self.assertNotIn("mail sent successfully", found, "that needs no explanation")


class LinkTests(SynchronousTestCase):
    """Whoever follows a link arrives."""

    def test_every_link_of_readme_and_docs_leads_somewhere(self) -> None:
        found = [link for document in documents(ROOT) for link in links(ROOT, document)]
        self.assertGreater(len(found), 200)
        self.assertEqual([fault for link in found if (fault := fault_of(ROOT, link))], [])

    def test_what_leads_nowhere_is_found(self) -> None:
        root = Path(self.mktemp()).absolute()
        (root / "docs").mkdir(parents=True)
        (root / "docs/other.md").write_text(
            "# One `two`, three\n\n```\n# no heading\n```\n## It's\n"
        )
        good = (
            "[a](docs/other.md#one-two-three) [b](docs/other.md#its) [c](docs) [d](#top) `[x](y)`"
        )
        (root / "good.md").write_text(f"# Top\n\n{good}\n\n```\n[code](nowhere)\n```\n")
        bad = "[a](nowhere.md)\n[b](docs/other.md#no-heading)\n[![c](gone.svg)](good.md) [d](../x)"
        (root / "bad.md").write_text(bad)
        faults = {
            str(name): [
                fault for link in links(root, name) if (fault := fault_of(root.resolve(), link))
            ]
            for name in documents(root)
        }
        self.assertEqual(
            faults,
            {
                "bad.md": [
                    "bad.md:1: nowhere.md: there is no such file",
                    "bad.md:2: docs/other.md#no-heading: there is no such heading",
                    "bad.md:3: gone.svg: there is no such file",
                    "bad.md:3: ../x: there is no such file",
                ],
                "docs/other.md": [],
                "good.md": [],
            },
        )

    def test_every_page_is_in_the_table_of_contents(self) -> None:
        listed = {link.target for link in links(ROOT, Path("docs/index.md"))}
        for page in sorted(DOCS.rglob("*.md")):
            name = str(page.relative_to(DOCS))
            if name != "index.md":
                self.assertIn(name, listed)


class FigureTests(SynchronousTestCase):
    """Figures are measured in one place."""

    def test_sizing_tells_what_was_measured(self) -> None:
        measured = (DOCS / "performance.md").read_text("utf-8")
        table = (DOCS / "how-to/operate.md").read_text("utf-8").partition("| measured | |")[2]
        figures = re.findall(r"[0-9][0-9.,]*(?<![.,])", table.partition("\n\n")[0])
        self.assertGreater(len(figures), 10)
        for figure in figures:
            found = re.search(rf"(?<![0-9.,]){re.escape(figure)}(?![0-9])", measured)
            self.assertTrue(found, f"{figure} is not in performance.md")


class PictureTests(SynchronousTestCase):
    """Pictures show what the tutorial says, which is what the commands print."""

    def test_it_is_the_tutorial_s_session(self) -> None:
        drawn = pictures((DOCS / "tutorial/first-mail.md").read_text("utf-8"))
        self.assertEqual(list(drawn), ["docs/images/terminal.svg"])
        for name, picture in drawn.items():
            self.assertEqual((ROOT / name).read_text("utf-8"), picture, "run: make generate")

    def test_it_is_well_formed_and_shows_every_line(self) -> None:
        session = "$ echo '<b>' && date\n<b>  & more\n\nlast\n"
        shown = ET.fromstring(draw(session))  # noqa: S314 - our own text
        texts = ["".join(each.itertext()) for each in shown.iter(f"{_SVG}text")]
        self.assertEqual(texts, ["$ echo '<b>' && date", "<b>  & more", "last"])
