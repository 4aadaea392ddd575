-- What a search looks messages up by (docs/search.md). Filled by the search that first needs it, block by block: who
-- appends does not know of it, and nothing has to be done for what is there already.
CREATE TABLE search_blocks (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,  -- the row of its grams below
    session_id  TEXT NOT NULL,
    first_seq   INTEGER NOT NULL,
    last_seq    INTEGER NOT NULL,
    newest      TEXT NOT NULL,  -- the largest of its messages' ids
    oldest      TEXT NOT NULL,
    UNIQUE (session_id, first_seq)
) STRICT;

-- Numbers for words: which text is which gram is nobody's business but store/matching.py's.
CREATE VIRTUAL TABLE search_grams USING fts5(grams, content='', detail=none, columnsize=0, tokenize='ascii');
