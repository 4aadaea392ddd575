-- What a search looks messages up by (docs/search.md). Filled by the search that first needs it, block by block: who
-- appends does not know of it, and nothing has to be done for what is there already. No foreign key, as messages.
CREATE TABLE search_blocks (
    session_id  uuid NOT NULL,
    first_seq   bigint NOT NULL,
    last_seq    bigint NOT NULL,
    newest      uuid NOT NULL,  -- the largest of its messages' ids
    oldest      uuid NOT NULL,
    grams       integer[] NOT NULL,
    PRIMARY KEY (session_id, first_seq)
);

-- Without a list of what is pending, since every look-up would read through it.
CREATE INDEX search_grams ON search_blocks USING gin (grams) WITH (fastupdate = off);
