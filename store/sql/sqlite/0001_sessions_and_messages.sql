-- Times are milliseconds since the Unix epoch, `ttl` is seconds, JSON documents are the UTF-8 text they came as.

CREATE TABLE sessions (
    id          TEXT PRIMARY KEY,
    tenant_id   TEXT NOT NULL,
    user_id     TEXT NOT NULL,  -- the owner
    title       TEXT NOT NULL,
    status      TEXT NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'archived')),
    kind        TEXT NOT NULL CHECK (kind IN ('temporary', 'persistent')),
    exclusive   INTEGER NOT NULL CHECK (exclusive IN (0, 1)),
    head        INTEGER NOT NULL DEFAULT 0,  -- the last seq
    last_at     INTEGER NOT NULL,  -- time of the last message, or of creation
    epoch       INTEGER NOT NULL DEFAULT 1,
    version     INTEGER NOT NULL DEFAULT 1,
    ttl         INTEGER,
    expires_at  INTEGER,
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    ended_at    INTEGER,
    end_reason  TEXT CHECK (end_reason IN ('closed', 'expired', 'deleted')),
    voice       TEXT,
    text        TEXT,
    -- What may be long stands last, so that reading the columns before it needs no overflow page.
    sentences   TEXT,
    metadata    TEXT NOT NULL,
    context     TEXT NOT NULL,
    CHECK ((kind = 'persistent') = (ttl IS NULL)),
    CHECK ((ttl IS NULL) = (expires_at IS NULL)),
    CHECK ((ended_at IS NULL) = (end_reason IS NULL))
) STRICT;

-- How many live sessions a user owns; which sessions are due. Ended ones cost these nothing.
CREATE INDEX sessions_owned ON sessions (tenant_id, user_id) WHERE ended_at IS NULL;
CREATE INDEX sessions_due ON sessions (expires_at) WHERE ended_at IS NULL AND expires_at IS NOT NULL;

CREATE TABLE members (
    session_id  TEXT NOT NULL REFERENCES sessions (id),
    user_id     TEXT NOT NULL,
    tenant_id   TEXT NOT NULL,
    role        TEXT NOT NULL CHECK (role IN ('owner', 'writer', 'reader')),
    since       INTEGER NOT NULL,
    ended       INTEGER NOT NULL DEFAULT 0 CHECK (ended IN (0, 1)),  -- the session has: out of everybody's list
    PRIMARY KEY (session_id, user_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX members_of_user ON members (tenant_id, user_id) WHERE ended = 0;

-- With a rowid, unlike the small tables: rows are long, and a b-tree that holds them in its inner pages costs twice
-- the CPU and twice the space at 1.5 kB a message (docs/storage.md).
CREATE TABLE messages (
    session_id  TEXT NOT NULL REFERENCES sessions (id),
    seq         INTEGER NOT NULL CHECK (seq > 0),
    id          TEXT NOT NULL UNIQUE,
    sender      TEXT NOT NULL,
    client_id   TEXT NOT NULL,
    role        TEXT NOT NULL CHECK (role IN ('user', 'assistant', 'system', 'tool')),
    created_at  INTEGER NOT NULL,
    metadata    TEXT NOT NULL,
    content     TEXT NOT NULL,
    PRIMARY KEY (session_id, seq)
) STRICT;

-- What makes a repeated send find the first one.
CREATE UNIQUE INDEX messages_once ON messages (session_id, sender, client_id);

CREATE TABLE cursors (
    session_id  TEXT NOT NULL REFERENCES sessions (id),
    user_id     TEXT NOT NULL,
    delivered   INTEGER NOT NULL,
    read        INTEGER NOT NULL,
    PRIMARY KEY (session_id, user_id)
) STRICT, WITHOUT ROWID;

-- The outbox of what happens to sessions. AUTOINCREMENT: an id is never used again, even after a purge.
CREATE TABLE events (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id   TEXT NOT NULL,
    session_id  TEXT NOT NULL REFERENCES sessions (id),
    kind        TEXT NOT NULL CHECK (kind IN ('created', 'updated', 'archived', 'closed', 'expired', 'deleted')),
    version     INTEGER NOT NULL,
    at          INTEGER NOT NULL,
    data        TEXT NOT NULL DEFAULT '{}'
) STRICT;

-- A session ends once: a second terminal event cannot be stored.
CREATE UNIQUE INDEX events_end_once ON events (session_id) WHERE kind IN ('closed', 'expired', 'deleted');

CREATE TABLE revocations (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id   TEXT NOT NULL,
    user_id     TEXT NOT NULL,
    before      INTEGER NOT NULL
) STRICT;
