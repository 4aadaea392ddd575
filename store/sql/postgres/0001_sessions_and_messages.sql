-- Text that is compared or sorted is in collation "C": the order of code points, as everywhere else in the gateway, and
-- indexes that no new version of the C library can break. `ttl` is seconds.

CREATE TABLE sessions (
    id          uuid PRIMARY KEY,
    created_at  timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL,
    last_at     timestamptz NOT NULL,  -- time of the last message, or of creation
    expires_at  timestamptz,
    ended_at    timestamptz,
    head        bigint NOT NULL DEFAULT 0,  -- the last seq
    epoch       bigint NOT NULL DEFAULT 1,
    version     bigint NOT NULL DEFAULT 1,
    ttl         bigint,
    exclusive   boolean NOT NULL,
    tenant_id   text COLLATE "C" NOT NULL,
    user_id     text COLLATE "C" NOT NULL,  -- the owner
    kind        text COLLATE "C" NOT NULL CHECK (kind IN ('temporary', 'persistent')),
    status      text COLLATE "C" NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'archived')),
    end_reason  text COLLATE "C" CHECK (end_reason IN ('closed', 'expired', 'deleted')),
    title       text NOT NULL,
    voice       text,
    text        text,
    sentences   jsonb,
    metadata    jsonb NOT NULL,
    context     jsonb NOT NULL,
    CHECK ((kind = 'persistent') = (ttl IS NULL)),
    CHECK ((ttl IS NULL) = (expires_at IS NULL)),
    CHECK ((ended_at IS NULL) = (end_reason IS NULL))
) WITH (
    -- Every group of messages moves the head, which writes the row anew: half a page is left free for the new one, so
    -- that no index has to learn of it (a HOT update), and what is long stands elsewhere, so that it is not copied.
    fillfactor = 50,
    toast_tuple_target = 512,
    autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_analyze_scale_factor = 0.05
);

-- How many live sessions a user owns; which sessions are due. Ended ones cost these nothing.
CREATE INDEX sessions_owned ON sessions (tenant_id, user_id) WHERE ended_at IS NULL;
CREATE INDEX sessions_due ON sessions (expires_at, id) WHERE ended_at IS NULL AND expires_at IS NOT NULL;

CREATE TABLE members (
    session_id  uuid NOT NULL REFERENCES sessions (id),
    since       timestamptz NOT NULL,
    ended       boolean NOT NULL DEFAULT false,  -- the session has: out of everybody's list
    tenant_id   text COLLATE "C" NOT NULL,
    user_id     text COLLATE "C" NOT NULL,
    role        text COLLATE "C" NOT NULL CHECK (role IN ('owner', 'writer', 'reader')),
    PRIMARY KEY (session_id, user_id)
);

CREATE INDEX members_of_user ON members (tenant_id, user_id) WHERE NOT ended;

-- No foreign key: rows come from one statement alone, which holds the row of their session, and the check of each
-- would cost a third of the append (docs/postgres.md).
CREATE TABLE messages (
    session_id  uuid NOT NULL,
    seq         bigint NOT NULL CHECK (seq > 0),
    id          uuid NOT NULL UNIQUE,
    created_at  timestamptz NOT NULL,
    sender      text COLLATE "C" NOT NULL,
    client_id   text COLLATE "C" NOT NULL,
    role        text COLLATE "C" NOT NULL CHECK (role IN ('user', 'assistant', 'system', 'tool')),
    metadata    jsonb NOT NULL,
    content     text NOT NULL,
    PRIMARY KEY (session_id, seq)
);

-- What makes a repeated send find the first one.
CREATE UNIQUE INDEX messages_once ON messages (session_id, sender, client_id);

CREATE TABLE cursors (
    session_id  uuid NOT NULL REFERENCES sessions (id),
    user_id     text COLLATE "C" NOT NULL,
    delivered   bigint NOT NULL,
    read        bigint NOT NULL,
    PRIMARY KEY (session_id, user_id)
) WITH (fillfactor = 70);

-- The outbox of what happens to sessions. Nodes write rows at the same time, without an id; whoever reads numbers
-- them, one reader at a time. So ids grow in the order in which readers may see them, and no writer waits for another.
CREATE TABLE events (
    position    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id          bigint UNIQUE,
    session_id  uuid NOT NULL REFERENCES sessions (id),
    version     bigint NOT NULL,
    at          timestamptz NOT NULL,
    tenant_id   text COLLATE "C" NOT NULL,
    kind        text COLLATE "C" NOT NULL
        CHECK (kind IN ('created', 'updated', 'archived', 'closed', 'expired', 'deleted')),
    data        jsonb NOT NULL DEFAULT '{}'
);

CREATE SEQUENCE event_ids OWNED BY events.id;
CREATE INDEX events_unnumbered ON events (position) WHERE id IS NULL;

-- A session ends once: a second terminal event cannot be stored.
CREATE UNIQUE INDEX events_end_once ON events (session_id) WHERE kind IN ('closed', 'expired', 'deleted');

CREATE TABLE revocations (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    before      timestamptz NOT NULL,
    tenant_id   text COLLATE "C" NOT NULL,
    user_id     text COLLATE "C" NOT NULL
);
