"""docs/security.md promises nothing that no test tries to break."""

import re

from tests.process import ROOT

DOCUMENT = (ROOT / "docs" / "security.md").read_text()


def test_every_test_the_page_names_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", DOCUMENT))
    existing = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^\s*(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    assert len(named) > 50
    assert named <= existing, named - existing


def test_every_row_of_the_page_names_a_test() -> None:
    rows = [
        line for line in DOCUMENT.splitlines() if line.startswith("| ") and "what cannot be done" not in line
    ]
    assert all("`test_" in row.rsplit("|", 2)[1] for row in rows)
