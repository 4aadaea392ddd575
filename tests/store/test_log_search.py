"""What the log promises of searches: the result is that of reading everything, and each call is bounded."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path

import asyncpg
import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from store import search as searching
from store.errors import Unavailable
from store.log import Log
from store.log_postgres.schema import known_migrations, migrate_database
from store.log_sqlite.connection import open_writer
from store.log_sqlite.folder import DATABASE
from store.log_sqlite.log import SqliteLog
from store.log_sqlite.schema import apply
from store.log_sqlite.schema import known_migrations as known_of_sqlite
from store.matching import grams_of, is_match, terms_of
from store.search import Found, Search
from store.types import Draft, Session
from tests.store.backends.logs import OpenLog
from tests.store.making import NOW, appended, draft, new_id, opened
from tests.store.postgres_databases import OPTIONS, Databases, nodes

FIRST = "00000000-0000-7000-8000-000000000000"


async def one_call(log: Log, query: str, **given: object) -> Found:
    filled: dict[str, object] = {"tenant": "t", "user": "alice", "terms": terms_of(query), "limit": 10}
    return await log.search(Search(**(filled | given)))  # type: ignore[arg-type]


async def found(log: Log, query: str, **given: object) -> list[str]:
    """The contents found by going on until there is nothing more."""
    contents: list[str] = []
    ids: list[str] = []
    while True:
        page = await one_call(log, query, **given)
        contents += [message.content for message in page.messages]
        ids += [message.id for message in page.messages]
        if page.before is None:
            assert ids == sorted(set(ids), reverse=True)
            return contents
        given["before"] = page.before


async def said(log: Log, session: Session, *contents: str) -> None:
    await appended(log, *(draft(session, content=content) for content in contents))


@pytest.mark.parametrize(
    ("query", "content"),
    [
        ("cat", "the Cat sat"),
        ("CAT sat", "the cat sat"),
        ("sat cat", "the cat sat"),
        ('"cat  SAT"', "the cat\n sat"),
        ("essio", "two sessions"),
        ("a", "ha"),
        ("ok", "it is OK"),
        ("我", "给我看"),
        ("世界", "你好，世界！"),
        ("好世", "你好世界"),
        ("上海天气", "上海天气怎么样"),
        ("hello世界", "say hello世界"),
        ("한국", "한국어"),
        ("かな", "ひらかなです"),
        ("ไทย", "ภาษาไทย"),
        ("ελλάδα", "ΕΛΛΆΔΑ"),
        ("strasse", "STRAẞE"),
        ("é", "cafe\u0301"),
        ("123", "ab 1234"),
        ("😀", "so 😀!"),
        ("c++", "in C++ or C"),
        ("100%", "it is 100％ sure"),
        ("foo_bar", "the foo_bar()"),
        ("'; DROP", "x'; drop table"),
    ],
)
async def test_a_term_is_found_wherever_it_stands_in_any_script(log: Log, query: str, content: str) -> None:
    session = await opened(log)
    await said(log, session, "something else", content, "或者别的")
    assert await found(log, query) == [content]
    assert await found(log, query, session=session.id) == [content]


async def test_every_term_must_be_in_the_same_message(log: Log) -> None:
    session = await opened(log)
    await said(log, session, "red apple", "green pear", "red pear")
    assert await found(log, "red pear") == ["red pear"]
    assert await found(log, '"red apple"') == ["red apple"]
    assert await found(log, '"apple red"') == []
    assert await found(log, "e") == ["red pear", "green pear", "red apple"]


async def test_the_newest_come_first_over_all_ones_sessions_in_pages(log: Log) -> None:
    first, second = await opened(log), await opened(log)
    for number in range(25):
        await said(log, (first, second)[number % 2], f"word {number}", f"other {number}")
    pages = [await one_call(log, "word", limit=10)]
    while pages[-1].before is not None:
        pages.append(await one_call(log, "word", limit=10, before=pages[-1].before))
    assert [len(page.messages) for page in pages] == [10, 10, 5]
    contents = [message.content for page in pages for message in page.messages]
    assert contents == [f"word {number}" for number in reversed(range(25))]


async def test_what_was_acked_is_found_at_once_however_often_one_searches(log: Log) -> None:
    session = await opened(log)
    for number in range(70):
        await said(log, session, f"word{number}")
        assert await found(log, f"word{number}") == [f"word{number}"]
    assert len(await found(log, "word")) == 70


async def test_nobody_finds_what_is_not_theirs(log: Log) -> None:
    mine, theirs = await opened(log), await opened(log, owner="bob")
    await opened(log, owner="alice", tenant="other")
    await said(log, mine, "secret of alice")
    await appended(log, draft(theirs, sender="bob", content="secret of bob"))
    assert await found(log, "secret") == ["secret of alice"]
    assert await found(log, "secret", session=theirs.id) == []
    assert await found(log, "secret", tenant="other") == []
    assert await found(log, "secret", tenant="other", session=mine.id) == []
    assert await found(log, "secret", session="no-id") == []
    assert await found(log, "secret", user="nul\0") == []
    await log.put_member("t", theirs.id, "alice", "reader", now=NOW)
    assert await found(log, "secret") == ["secret of bob", "secret of alice"]
    await log.remove_member("t", theirs.id, "alice", now=NOW)
    assert await found(log, "secret") == ["secret of alice"]


async def test_an_ended_session_is_searched_by_its_id_until_it_is_deleted(log: Log) -> None:
    closed, deleted = await opened(log), await opened(log)
    await said(log, closed, "word in closed")
    await said(log, deleted, "word in deleted")
    await log.end("t", closed.id, "closed", now=NOW)
    await log.end("t", deleted.id, "deleted", now=NOW)
    assert await found(log, "word") == []
    assert await found(log, "word", session=closed.id) == ["word in closed"]
    assert await found(log, "word", session=deleted.id) == []


async def test_a_call_indexes_so_much_and_says_where_to_go_on(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "INDEXED", 1)
    session, other = await opened(log), await opened(log)
    for place in (session, other):
        for first in range(0, 400, 200):
            await said(log, place, *(f"word {first + number}" for number in range(200)))
    calls = 0
    page = await one_call(log, "399")
    while page.before is not None:
        calls += 1
        assert page.messages == []
        page = await one_call(log, "399", before=page.before)
    assert [message.content for message in page.messages] == ["word 399"] * 2
    assert calls == 3


async def test_a_call_examines_so_much_and_says_where_to_go_on(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "EXAMINED", 8)
    session = await opened(log)
    # Every block has both words, no message has.
    for _ in range(4):
        await said(log, session, *("red" if number % 2 else "pear" for number in range(160)))
    await said(log, session, *("x" for _ in range(32)))
    await said(log, session, "red pear")
    assert (await one_call(log, "red pear")).before is not None
    assert await found(log, "red pear") == ["red pear"]
    assert await found(log, "pear red", before=FIRST) == []


async def test_a_page_holds_so_many_characters(log: Log) -> None:
    session = await opened(log)
    await said(log, session, *("word" + "x" * 60_000 for _ in range(5)))
    page = await one_call(log, "word")
    assert len(page.messages) == 3
    assert page.before is not None
    assert len(await found(log, "word")) == 5


async def test_a_text_of_too_many_grams_is_found_nevertheless(log: Log) -> None:
    session = await opened(log)
    senseless = "".join(chr(0x4E00 + number * number * 7919 % 20_011) for number in range(12_000))
    assert len(grams_of([senseless])) > searching.GRAMS
    await said(log, session, "first", senseless, "last")
    assert await found(log, senseless[5_000:5_003]) == [senseless]
    assert await found(log, "zzz") == []
    assert await found(log, "first") == ["first"]


@pytest.mark.parametrize("limit", [1, 7, 100])
async def test_every_match_is_found_once_in_the_order_of_ids_whatever_the_bounds(
    log: Log, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    for name, value in {"BLOCK_MESSAGES": 2, "ROWS_AT_ONCE": 4, "EXAMINED": 4, "INDEXED": 8}.items():
        monkeypatch.setattr(searching, name, value)
    sessions = [await opened(log) for _ in range(3)]
    ids = sorted(new_id() for _ in range(60))
    # The clocks of nodes differ: the order of a session is not that of ids.
    shuffled = [ids[number * 7 % 60] for number in range(60)]
    drafts = [
        draft(sessions[number % 3], id=id, content=f"word {number}" if number % 4 else "wor rd wo")
        for number, id in enumerate(shuffled)
    ]
    await appended(log, *drafts)
    newest_first = sorted(drafts, key=lambda each: each.id, reverse=True)
    assert await found(log, "word", limit=limit) == [
        each.content for each in newest_first if is_match(each.content, ("word",))
    ]


async def test_searches_at_the_same_time_find_the_same(log: Log) -> None:
    session = await opened(log)
    await said(log, session, *(f"word {number}" for number in range(300)))
    results = await asyncio.gather(*(found(log, "word", limit=100) for _ in range(12)))
    assert all(result == results[0] for result in results)
    assert len(results[0]) == 300


async def test_too_many_searches_are_told_to_come_back(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "WAITING", 0)
    await opened(log)
    outcomes = await asyncio.gather(*(one_call(log, "word") for _ in range(4)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Found, Found, Unavailable, Unavailable]
    assert await found(log, "word") == []


# -- the schema before this one


async def test_what_was_written_before_the_index_came_is_found_and_older_nodes_write_on(
    databases: Databases, tmp_path: Path
) -> None:
    async def compare(older: Log, newer: Log) -> None:
        session = await opened(older)
        await said(older, session, *(f"word {number}" for number in range(100)))
        assert len(await found(newer, "word")) == 100
        await said(older, session, "word 100")
        assert len(await found(newer, "word")) == 101

    async with databases.fresh() as url:
        admin = await asyncpg.connect(url)
        await admin.execute("DROP TABLE search_blocks; DELETE FROM schema_migrations WHERE number >= 3")
        await admin.close()
        # A node of the version before is one that never searches: it knows nothing of the table.
        assert "0003_search.sql" in await migrate_database(url, OPTIONS, known_migrations(), "before")
        async with nodes(url, 2) as (older, newer):
            await compare(older, newer)
    with closing(open_writer(tmp_path / DATABASE)) as db:
        apply(db, known_of_sqlite()[:2])
    log = SqliteLog(tmp_path)
    await log.start()
    await compare(log, log)
    await log.close()


# -- the result is that of reading everything

WORDS = st.sampled_from(
    [
        "cat",
        "Cats",
        "ca",
        "a",
        "at",
        "我",
        "世界",
        "你好世界",
        "界",
        "É",
        "e\u0301",
        "ß",
        "ss",
        "😀",
        "１２",
        "2",
        ",",
    ]
)
TEXTS = st.lists(WORDS | st.sampled_from([" ", "\n", "  "]), min_size=1, max_size=6).map("".join)
QUERIES = st.lists(WORDS, min_size=1, max_size=3).map(" ".join) | st.lists(WORDS, min_size=1, max_size=3).map(
    lambda words: '"' + " ".join(words) + '"'
)


@asynccontextmanager
async def filled(open_log: OpenLog, texts: Sequence[Sequence[str]]) -> AsyncIterator[tuple[Log, list[Draft]]]:
    async with open_log() as log:
        sessions = [await opened(log) for _ in texts]
        drafts = [
            draft(session, content=text)
            for session, each in zip(sessions, texts, strict=True)
            for text in each
        ]
        if drafts:
            await appended(log, *drafts)
        yield log, drafts


def test_a_search_finds_what_reading_everything_finds(
    open_log: OpenLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"BLOCK_MESSAGES": 3, "ROWS_AT_ONCE": 6, "EXAMINED": 4, "INDEXED": 9}.items():
        monkeypatch.setattr(searching, name, value)

    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
    @given(
        texts=st.lists(st.lists(TEXTS, max_size=20), min_size=1, max_size=3),
        queries=st.lists(QUERIES, min_size=1, max_size=5),
        limit=st.integers(1, 9),
    )
    def check(texts: list[list[str]], queries: list[str], limit: int) -> None:
        async def compare() -> None:
            async with filled(open_log, texts) as (log, drafts):
                for query in queries:
                    terms = terms_of(query)
                    newest_first = sorted(drafts, key=lambda each: each.id, reverse=True)
                    naive = [each.content for each in newest_first if is_match(each.content, terms)]
                    assert await found(log, query, limit=limit) == naive

        asyncio.run(compare())

    check()
