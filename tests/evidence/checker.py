"""Holds a history against what is stored: the one checker, for every run there is.

Pure: no gateway, no client, no server; a history that was kept can be held against itself again. It looks at
the whole history at once, whose bound is that of `History`; each promise walks through it once.
"""

from collections.abc import Sequence

from tests.evidence.evidence import Evidence
from tests.evidence.evidence import Kind as Kind
from tests.evidence.evidence import Violation as Violation
from tests.evidence.history import Record
from tests.evidence.messages import MESSAGES
from tests.evidence.sessions import SESSIONS, faults_heal
from tests.evidence.stored import Stored, stored_in


def check(
    records: Sequence[Record], stored: Stored | None = None, *, heals_within_s: float | None = None
) -> list[Violation]:
    """Hold a history against what is stored; an empty list means that every promise was kept.

    Without `stored` it is what the history itself says at its end. Without `heals_within_s` nobody has asked
    how soon its faults are over.
    """
    evidence = Evidence(records, stored_in(records) if stored is None else stored)
    found = [violation for promise in (*MESSAGES, *SESSIONS) for violation in promise(evidence)]
    if heals_within_s is not None:
        found += faults_heal(evidence, heals_within_s)
    return found
