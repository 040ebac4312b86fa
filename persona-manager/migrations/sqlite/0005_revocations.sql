-- Keys of nodes and edges that are out for good.
CREATE TABLE revocations (key TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT, WITHOUT ROWID;
