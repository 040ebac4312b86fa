-- Root certificates that are trusted; their keys lie in files beside the store.
CREATE TABLE roots (key TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT, WITHOUT ROWID;
