-- Events with who did it, with joins and leaves, and with what the latter are known by, so that writing one again does not
-- write it twice. SQLite changes no check of a table: it is made anew, and goes on counting where the old one was.
CREATE TABLE events_anew (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id   TEXT NOT NULL,
    session_id  TEXT NOT NULL REFERENCES sessions (id),
    kind        TEXT NOT NULL CHECK (
        kind IN ('created', 'updated', 'archived', 'closed', 'expired', 'deleted', 'joined', 'left')
    ),
    version     INTEGER NOT NULL,
    at          INTEGER NOT NULL,
    actor       TEXT,
    key         TEXT,
    data        TEXT NOT NULL DEFAULT '{}'
) STRICT;

INSERT INTO events_anew (id, tenant_id, session_id, kind, version, at, data)
SELECT id, tenant_id, session_id, kind, version, at, data FROM events ORDER BY id;

DELETE FROM sqlite_sequence WHERE name = 'events_anew';
INSERT INTO sqlite_sequence (name, seq) SELECT 'events_anew', seq FROM sqlite_sequence WHERE name = 'events';
DROP TABLE events;
ALTER TABLE events_anew RENAME TO events;

CREATE UNIQUE INDEX events_end_once ON events (session_id) WHERE kind IN ('closed', 'expired', 'deleted');
CREATE UNIQUE INDEX events_once ON events (key) WHERE key IS NOT NULL;
CREATE INDEX events_of_tenant ON events (tenant_id, id);

-- One row: up to which event all are gone, up to which the webhook has had them, and which node delivers.
CREATE TABLE outbox (
    one         INTEGER PRIMARY KEY CHECK (one = 1),
    purged      INTEGER NOT NULL DEFAULT 0,
    delivered   INTEGER NOT NULL DEFAULT 0,
    held_until  INTEGER NOT NULL DEFAULT 0,
    holder      TEXT
) STRICT;

INSERT INTO outbox (one) VALUES (1);
