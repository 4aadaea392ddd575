-- Who did it; and what an event of presence is known by, so that writing it again does not write it twice. Nodes of the
-- version before leave both empty.
ALTER TABLE events
    ADD COLUMN actor text COLLATE "C",
    ADD COLUMN key uuid;

-- Not validated: what is there has passed a narrower check, and need not be read again while everybody waits.
ALTER TABLE events DROP CONSTRAINT events_kind_check;
ALTER TABLE events ADD CONSTRAINT events_kind_check
    CHECK (kind IN ('created', 'updated', 'archived', 'closed', 'expired', 'deleted', 'joined', 'left')) NOT VALID;

CREATE UNIQUE INDEX events_once ON events (key) WHERE key IS NOT NULL;
CREATE INDEX events_of_tenant ON events (tenant_id, id);

-- One row: up to which event all are gone, up to which the webhook has had them, and which node delivers.
CREATE TABLE outbox (
    one         boolean PRIMARY KEY DEFAULT true CHECK (one),
    purged      bigint NOT NULL DEFAULT 0,
    delivered   bigint NOT NULL DEFAULT 0,
    held_until  timestamptz NOT NULL DEFAULT '-infinity',
    holder      text COLLATE "C"
);

INSERT INTO outbox DEFAULT VALUES;
