"""What `Log.append` promises: one order, once, complete or refused, row by row."""

import asyncio
import json
from typing import Any, Final

import pytest

from store.log import Log
from store.types import Appended, Change, Draft, EndReason, Refused, Session, Standing
from tests.store.making import NOW, appended, draft, new_id, opened


def seqs(outcomes: list[Appended | Refused]) -> list[int | str]:
    """The seq of what was stored, the reason of what was not."""
    return [outcome.seq if isinstance(outcome, Appended) else outcome.code for outcome in outcomes]


async def heads(log: Log, *sessions: Session) -> dict[str, int]:
    standings = await log.standings([session.id for session in sessions])
    return {id: standing.head for id, standing in standings.items()}


# -- one order


async def test_messages_are_numbered_from_one_without_a_gap(log: Log) -> None:
    session = await opened(log)
    for expected in range(1, 6):
        assert seqs(await log.append([draft(session)])) == [expected]


async def test_each_session_counts_by_itself(log: Log) -> None:
    one, two = await opened(log), await opened(log)
    assert seqs(await log.append([draft(one), draft(two), draft(one), draft(two)])) == [1, 1, 2, 2]


async def test_drafts_of_one_call_keep_their_order(log: Log) -> None:
    session = await opened(log)
    drafts = [draft(session) for _ in range(100)]
    assert seqs(await log.append(drafts)) == list(range(1, 101))
    assert [m.id for m in await log.read(session.id, after=0, limit=200)] == [d.id for d in drafts]


async def test_the_nth_outcome_belongs_to_the_nth_draft(log: Log) -> None:
    one, two = await opened(log), await opened(log)
    drafts = [draft(one), draft("nowhere"), draft(two), draft(one)]
    outcomes = await log.append(drafts)
    assert outcomes == [
        Appended(seq=1, id=drafts[0].id, created_at=drafts[0].created_at),
        Refused(code="not_found"),
        Appended(seq=1, id=drafts[2].id, created_at=drafts[2].created_at),
        Appended(seq=2, id=drafts[3].id, created_at=drafts[3].created_at),
    ]


async def test_512_drafts_go_into_one_call(log: Log) -> None:
    session = await opened(log)
    assert seqs(await log.append([draft(session) for _ in range(512)])) == list(range(1, 513))


async def test_no_drafts_are_no_outcomes(log: Log) -> None:
    assert await log.append([]) == []


async def test_many_callers_at_once_leave_no_gap_and_keep_their_own_order(log: Log) -> None:
    sessions = [await opened(log) for _ in range(3)]

    async def send(caller: int) -> list[tuple[str, int]]:
        sent: list[tuple[str, int]] = []
        for turn in range(10):
            session = sessions[(caller + turn) % 3]
            outcomes = await appended(log, *(draft(session, content=f"{caller}") for _ in range(3)))
            sent += [(session.id, outcome.seq) for outcome in outcomes]
        return sent

    everything = await asyncio.gather(*(send(caller) for caller in range(20)))
    for session in sessions:
        for sent in everything:
            mine = [seq for id, seq in sent if id == session.id]
            assert mine == sorted(mine)
        numbers = sorted(seq for sent in everything for id, seq in sent if id == session.id)
        assert numbers == list(range(1, len(numbers) + 1))
        assert [m.seq for m in await log.read(session.id, after=0, limit=500)] == numbers
    assert sum((await heads(log, *sessions)).values()) == 20 * 10 * 3


# -- what is stored


@pytest.mark.parametrize(
    "content",
    [
        "",
        "plain",
        "quotes \" and \\ and ' and %s ?",
        "tab\tline\nreturn\rbell\x07\x1f\x7f",
        "żółć 日本 👩‍👩‍👧 ﷽ \u2028",
        "x" * 65_536,
    ],
    ids=["empty", "plain", "quotes", "control", "unicode", "64k"],
)
async def test_content_comes_back_as_it_was(log: Log, content: str) -> None:
    session = await opened(log)
    await appended(log, draft(session, content=content))
    assert [m.content for m in await log.read(session.id, after=0, limit=1)] == [content]
    repeated = await log.append(
        [
            draft(session, content=content, client_id="again"),
            draft(session, content=content, client_id="again"),
        ]
    )
    assert [outcome.duplicate for outcome in repeated if isinstance(outcome, Appended)] == [False, True]


@pytest.mark.parametrize(
    "metadata",
    [b"{}", b'{ "a" : [1, 2.50, null],\n"a":"twice", "\\u00e9":"\xc3\xa9" }', b'{"n":9007199254740991}'],
)
async def test_metadata_come_back_equal_as_json(log: Log, metadata: bytes) -> None:
    session = await opened(log)
    await appended(log, draft(session, metadata=metadata))
    (message,) = await log.read(session.id, after=0, limit=1)
    assert json.loads(message.metadata) == json.loads(metadata)


@pytest.mark.parametrize("role", ["user", "assistant", "system", "tool"])
async def test_every_part_of_a_message_comes_back(log: Log, role: str) -> None:
    session = await opened(log)
    sent = draft(session, role=role, metadata=b'{"k": 1}', client_id="given by the client")
    await appended(log, sent)
    (message,) = await log.read(session.id, after=0, limit=1)
    assert (message.session, message.seq, message.id, message.client_id) == (
        session.id,
        1,
        sent.id,
        sent.client_id,
    )
    assert (message.sender, message.role, message.content) == ("alice", role, sent.content)
    assert (message.metadata, message.created_at) == (sent.metadata, sent.created_at)


async def test_a_message_moves_the_head_and_nothing_else_of_its_session(log: Log) -> None:
    session = await opened(log, ttl_s=60)
    await appended(log, draft(session), draft(session))
    found = await log.get("t", session.id)
    assert found is not None
    assert found.head == 2
    assert (found.version, found.updated_at, found.expires_at) == (1, session.updated_at, session.expires_at)


# -- once


async def test_a_repeated_send_gets_the_first_outcome_marked_duplicate(log: Log) -> None:
    session = await opened(log)
    first = draft(session)
    (stored,) = await appended(log, first)
    again = draft(session, client_id=first.client_id, content=first.content, created_at=NOW + 999)
    assert await log.append([again]) == [
        Appended(seq=stored.seq, id=first.id, created_at=first.created_at, duplicate=True)
    ]
    assert await heads(log, session) == {session.id: 1}


async def test_append_repeated_after_an_unknown_outcome_tells_the_truth(log: Log) -> None:
    session = await opened(log)
    drafts = [draft(session) for _ in range(5)]
    await appended(log, *drafts[:3])
    outcomes = await appended(log, *drafts)
    assert [(o.seq, o.id, o.duplicate) for o in outcomes] == [
        (place + 1, d.id, place < 3) for place, d in enumerate(drafts)
    ]


async def test_a_repeated_send_may_print_its_metadata_differently(log: Log) -> None:
    session = await opened(log)
    sent = draft(session, metadata=b'{"a":[1,{"b":null,"c":true}],"d":"\xc3\xa9"}')
    await appended(log, sent)
    other_print = b'{ "d" : "\\u00e9", "a" : [1, {"c": true, "b": null}] }'
    again = draft(session, client_id=sent.client_id, content=sent.content, metadata=other_print)
    one_who_is_new = draft(session, metadata=sent.metadata)
    repeated_at_once = draft(
        session,
        client_id=one_who_is_new.client_id,
        content=one_who_is_new.content,
        metadata=other_print,
    )
    outcomes = await appended(log, again, one_who_is_new, repeated_at_once)
    assert [(o.seq, o.duplicate) for o in outcomes] == [(1, True), (2, False), (2, True)]


@pytest.mark.parametrize(
    "pair", [(b'{"a":true}', b'{"a":1}'), (b'{"a":[1]}', b'{"a":[1,1]}'), (b"{}", b'{"a":0}')]
)
async def test_metadata_that_say_something_else_are_a_conflict(log: Log, pair: tuple[bytes, bytes]) -> None:
    session = await opened(log)
    sent, other = (draft(session, client_id="c", content="c", metadata=metadata) for metadata in pair)
    assert seqs(await log.append([sent, other])) == [1, "id_conflict"]
    assert seqs(await log.append([other])) == ["id_conflict"]


UNSTORABLE: Final[dict[str, dict[str, Any]]] = {
    "a lone surrogate": {"content": "half of \ud83d"},
    "metadata that are no UTF-8": {"metadata": b'{"a":"\xff"}'},
    "a client id of a lone surrogate": {"client_id": "\udc00"},
}


@pytest.mark.parametrize("bad", UNSTORABLE.values(), ids=UNSTORABLE)
async def test_what_cannot_be_stored_is_refused_and_disturbs_nobody(log: Log, bad: dict[str, Any]) -> None:
    one, two = await opened(log), await opened(log)
    group = [draft(one), draft(two), draft(one, **bad), draft(two), draft(one), draft(two, **bad)]
    assert seqs(await log.append(group)) == [1, 1, "invalid", 2, 2, "invalid"]
    assert seqs(await log.append([draft(one, **bad)])) == ["invalid"]
    assert await heads(log, one, two) == {one.id: 2, two.id: 2}
    assert seqs(await log.append(group)) == [1, 1, "invalid", 2, 2, "invalid"]


@pytest.mark.parametrize("other", [{"content": "else"}, {"role": "system"}, {"metadata": b'{"a":1}'}])
async def test_another_payload_under_a_used_id_is_a_conflict(log: Log, other: dict[str, Any]) -> None:
    session = await opened(log)
    await appended(log, draft(session, client_id="c", content="this"))
    changed = draft(session, **({"client_id": "c", "content": "this"} | other))
    assert seqs(await log.append([changed])) == ["id_conflict"]
    assert await heads(log, session) == {session.id: 1}


async def test_two_drafts_of_one_call_with_the_same_ids_are_stored_once(log: Log) -> None:
    session = await opened(log)
    first = draft(session)
    conflicting = draft(session, client_id=first.client_id, content="else")
    outcomes = await log.append([first, first, conflicting, draft(session)])
    assert seqs(outcomes) == [1, 1, "id_conflict", 2]
    assert [o.duplicate for o in outcomes if isinstance(o, Appended)] == [False, True, False]


async def test_a_client_id_is_free_for_other_senders_and_in_other_sessions(log: Log) -> None:
    one, two = await opened(log), await opened(log)
    await log.put_member("t", one.id, "bob", "writer", now=NOW)
    same = {"client_id": "c", "content": "same"}
    outcomes = await log.append([draft(one, **same), draft(one, sender="bob", **same), draft(two, **same)])
    assert seqs(outcomes) == [1, 2, 1]


async def test_an_id_that_another_message_has_is_a_conflict(log: Log) -> None:
    one, two = await opened(log), await opened(log)
    taken = new_id()
    await appended(log, draft(one, id=taken))
    fresh = new_id()
    outcomes = await log.append(
        [draft(two, id=taken), draft(two, id=fresh), draft(one, id=fresh), draft(two)]
    )
    assert seqs(outcomes) == ["id_conflict", 1, "id_conflict", 2]


async def test_the_repeat_of_a_refused_draft_is_judged_anew(log: Log) -> None:
    session = await opened(log)
    await log.put_member("t", session.id, "bob", "reader", now=NOW)
    sent = draft(session, sender="bob")
    assert seqs(await log.append([sent, sent])) == ["forbidden", "forbidden"]
    await log.put_member("t", session.id, "bob", "writer", now=NOW)
    assert await log.append([sent]) == [Appended(seq=1, id=sent.id, created_at=sent.created_at)]


# -- refused, and in which order


async def end(log: Log, session: Session, reason: EndReason) -> None:
    assert await log.end("t", session.id, reason, now=NOW) is not None


@pytest.mark.parametrize(
    "given",
    [{"session": new_id()}, {"tenant": "other"}, {"sender": "mallory"}],
    ids=["unknown session", "other tenant", "no member"],
)
async def test_what_is_not_yours_does_not_exist(log: Log, given: dict[str, str]) -> None:
    session = await opened(log)
    await appended(log, draft(session, client_id="c"))
    assert seqs(await log.append([draft(**({"session": session.id, "client_id": "c"} | given))])) == [
        "not_found"
    ]


@pytest.mark.parametrize(
    ("reason", "code"), [("closed", "closed"), ("deleted", "closed"), ("expired", "expired")]
)
async def test_an_ended_session_takes_nothing(log: Log, reason: EndReason, code: str) -> None:
    session = await opened(log)
    await end(log, session, reason)
    assert seqs(await log.append([draft(session)])) == [code]


async def test_a_reader_may_not_write(log: Log) -> None:
    session = await opened(log)
    await log.put_member("t", session.id, "bob", "reader", now=NOW)
    assert seqs(await log.append([draft(session, sender="bob")])) == ["forbidden"]


async def test_a_stale_epoch_cannot_write(log: Log) -> None:
    session = await opened(log, exclusive=True)
    held = await log.take_over("t", session.id)
    assert seqs(await log.append([draft(session, epoch=held)])) == [1]
    taken = await log.take_over("t", session.id)
    outcomes = await log.append([draft(session, epoch=held), draft(session, epoch=taken), draft(session)])
    assert seqs(outcomes) == ["superseded", 2, 3]


async def test_a_repeated_send_is_answered_before_anything_else_is_asked(log: Log) -> None:
    session = await opened(log, exclusive=True)
    await log.put_member("t", session.id, "bob", "writer", now=NOW)
    sent = draft(session, sender="bob", epoch=1)
    await appended(log, sent)
    await log.take_over("t", session.id)
    await log.put_member("t", session.id, "bob", "reader", now=NOW)
    await end(log, session, "expired")
    conflicting = draft(session, sender="bob", epoch=1, client_id=sent.client_id)
    outcomes = await log.append([sent, conflicting, draft(session, sender="bob", epoch=1)])
    assert seqs(outcomes) == [1, "id_conflict", "expired"]


async def test_who_was_removed_is_not_told_of_earlier_sends(log: Log) -> None:
    session = await opened(log)
    await log.put_member("t", session.id, "bob", "writer", now=NOW)
    sent = draft(session, sender="bob")
    await appended(log, sent)
    await log.remove_member("t", session.id, "bob", now=NOW)
    assert seqs(await log.append([sent])) == ["not_found"]


async def test_a_reader_with_a_stale_epoch_is_forbidden_rather_than_superseded(log: Log) -> None:
    session = await opened(log, exclusive=True)
    await log.put_member("t", session.id, "bob", "reader", now=NOW)
    await log.take_over("t", session.id)
    assert seqs(await log.append([draft(session, sender="bob", epoch=1)])) == ["forbidden"]


async def test_a_refused_draft_uses_no_seq_and_disturbs_nobody(log: Log) -> None:
    session, ended = await opened(log, exclusive=True), await opened(log)
    await log.put_member("t", session.id, "bob", "reader", now=NOW)
    await end(log, ended, "closed")
    used = draft(session)
    await appended(log, used)
    epoch = await log.take_over("t", session.id)

    def good() -> Draft:
        return draft(session, epoch=epoch)

    refused = [
        draft(session, tenant="other"),
        draft(ended),
        draft(session, sender="bob"),
        draft(session, epoch=epoch - 1),
        draft(session, client_id=used.client_id),
    ]
    group = [good()]
    for bad in refused:
        group += [bad, good()]
    expected = [2, "not_found", 3, "closed", 4, "forbidden", 5, "superseded", 6, "id_conflict", 7]
    assert seqs(await log.append(group)) == expected
    assert [m.seq for m in await log.read(session.id, after=0, limit=50)] == list(range(1, 8))


async def test_an_archived_session_still_takes_messages(log: Log) -> None:
    session = await opened(log)
    await log.update("t", session.id, Change(status="archived"), now=NOW, expected_version=None)
    assert seqs(await log.append([draft(session)])) == [1]


# -- reading


async def test_pages_are_read_forwards_and_backwards(log: Log) -> None:
    session, other = await opened(log), await opened(log)
    await appended(log, *(draft(session) for _ in range(10)), draft(other))

    async def forwards(after: int, limit: int) -> list[int]:
        return [m.seq for m in await log.read(session.id, after=after, limit=limit)]

    async def backwards(before: int, limit: int) -> list[int]:
        return [m.seq for m in await log.read_before(session.id, before=before, limit=limit)]

    assert await forwards(0, 3) == [1, 2, 3]
    assert await forwards(8, 5) == [9, 10]
    assert await forwards(10, 5) == []
    assert await forwards(-5, 2) == [1, 2]
    assert await forwards(3, 0) == []
    assert await backwards(11, 3) == [8, 9, 10]
    assert await backwards(3, 5) == [1, 2]
    assert await backwards(1, 5) == []
    assert await backwards(10**12, 1) == [10]
    assert await log.read(new_id(), after=0, limit=5) == []
    assert await log.read_before(new_id(), before=5, limit=5) == []


async def test_standings_are_of_the_sessions_that_exist(log: Log) -> None:
    one, two, three = [await opened(log, exclusive=True) for _ in range(3)]
    await appended(log, draft(one), draft(one), draft(two))
    await log.put_member("t", one.id, "bob", "reader", now=NOW)
    await end(log, two, "closed")
    await log.take_over("t", three.id)
    wanted = [one.id, new_id(), two.id, three.id, one.id]
    assert await log.standings(wanted) == {
        one.id: Standing(head=2, version=2, epoch=1, end_reason=None),
        two.id: Standing(head=1, version=2, epoch=1, end_reason="closed"),
        three.id: Standing(head=0, version=1, epoch=2, end_reason=None),
    }
    assert await log.standings([]) == {}
