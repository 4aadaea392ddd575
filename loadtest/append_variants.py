"""Other ways to append a group in Postgres, and other types of its columns: what the choice rests on."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from store.log_postgres import append as ours
from store.log_postgres.connection import Connection
from store.types import Draft

Append = Callable[[Connection, Sequence[Draft]], Awaitable[object]]
Change = tuple[str, str]


@dataclass(frozen=True)
class Variant:
    """A way to append: its differences in the schema, what it needs on a connection, what it does."""

    name: str
    append: Append
    schema: tuple[Change, ...] = ()
    prepare: str = ""


# -- the same statement, on other tables


def _on_other_types(*changes: Change) -> Append:
    sql = _changed(ours._APPEND, changes)

    async def append(db: Connection, drafts: Sequence[Draft]) -> object:
        return await db.fetch(sql, *ours._arguments(drafts), ours._sessions(drafts))

    return append


def _changed(text: str, changes: Sequence[Change]) -> str:
    for old, new in changes:
        text = text.replace(old, new)
    return text


# json has no equality of its own.
_AS_JSON: Final = (
    ("messages.metadata = draft.metadata", "messages.metadata::text = draft.metadata::text"),
    ("jsonb", "json"),
)
_AS_BIGINT: Final = (("timestamptz", "bigint"),)
_WITH_KEY: Final = (
    ("session_id  uuid NOT NULL,\n    seq", "session_id  uuid NOT NULL REFERENCES sessions (id),\n    seq"),
)


# -- a function: locks in a statement of its own, so that the next one sees all that was committed before


_ARGUMENTS: Final = (
    *("uuid[]", "text[]", "text[]", "uuid[]", "text[]", "text[]", "text[]", "jsonb[]", "timestamptz[]"),
    *("bigint[]", "uuid[]"),
)
_FUNCTION: Final = f"""
    CREATE FUNCTION append_group({", ".join(_ARGUMENTS)})
    RETURNS TABLE (r_verdict text, r_seq bigint, r_first bigint, r_id uuid, r_at timestamptz)
    LANGUAGE plpgsql AS $function$
    #variable_conflict use_column
    BEGIN
        PERFORM FROM sessions WHERE id = ANY ($11) ORDER BY id FOR NO KEY UPDATE;
        RETURN QUERY {ours._APPEND.replace("ORDER BY id FOR NO KEY UPDATE", "")};
    END $function$
"""


async def _by_function(db: Connection, drafts: Sequence[Draft]) -> object:
    return await db.fetch(
        "SELECT * FROM append_group($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        *ours._arguments(drafts),
        ours._sessions(drafts),
    )


# -- COPY into a temporary table, and the same statement from there

_COLUMNS: Final = (
    *("session_id", "tenant_id", "sender", "id", "client_id", "role", "content", "metadata", "created_at"),
    *("epoch", "place"),
)
_TYPES: Final = (
    *("uuid", "text", "text", "uuid", "text", "text", "text", "jsonb", "timestamptz", "bigint", "bigint"),
)
_TEMPORARY: Final = (
    f"CREATE TEMPORARY TABLE draft ({', '.join(map(' '.join, zip(_COLUMNS, _TYPES, strict=True)))}) "
    "ON COMMIT DELETE ROWS"
)
_AFTER_COPY: Final = "WITH " + ours._APPEND[ours._APPEND.index("locked AS") :].replace("$11", "$1")


async def _by_copy(db: Connection, drafts: Sequence[Draft]) -> object:
    rows: list[tuple[Any, ...]] = list(zip(*ours._arguments(drafts), range(1, len(drafts) + 1), strict=True))
    async with db.transaction():
        await db.copy_records_to_table("draft", records=rows, columns=_COLUMNS)
        return await db.fetch(_AFTER_COPY, ours._sessions(drafts))


VARIANTS: Final = (
    Variant("unnest (ours)", ours._at_once),
    Variant("function", _by_function, prepare=_FUNCTION),
    Variant("COPY", _by_copy, prepare=_TEMPORARY),
    Variant("judged here", ours._in_turn),
    Variant("json", _on_other_types(*_AS_JSON), schema=(("jsonb", "json"),)),
    Variant("bigint times", _on_other_types(*_AS_BIGINT), schema=_AS_BIGINT),
    Variant("foreign key", ours._at_once, schema=_WITH_KEY),
    Variant("a plan a call", ours._at_once, prepare="SET plan_cache_mode = force_custom_plan"),
)


def schema_of(variant: Variant, schema: str) -> str:
    """The schema that a variant works on."""
    return _changed(schema, variant.schema)
