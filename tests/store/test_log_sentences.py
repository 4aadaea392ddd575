"""What the log promises of a session's sentences."""

import json

from store.log import Log
from store.types import Change
from tests.store.making import NOW, opened


async def test_sentences_are_stored_and_stay_until_there_are_others(log: Log) -> None:
    session = await opened(log, text="一。二。")
    assert session.sentences is None
    for version, sentences in ((1, ["一。", "二。"]), (2, [])):
        change = Change(sentences=json.dumps(sentences).encode())
        changed = await log.update("t", session.id, change, now=NOW + version, expected_version=version)
        assert changed.version == version + 1
        assert json.loads(changed.sentences or b"null") == sentences
        assert (changed.text, changed.title, changed.context) == ("一。二。", "", b"{}")
        assert await log.get("t", session.id) == changed
    titled = await log.update("t", session.id, Change(title="x"), now=NOW + 3, expected_version=3)
    assert json.loads(titled.sentences or b"null") == []
