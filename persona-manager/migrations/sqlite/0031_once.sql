-- Answers that were given under idempotency keys, encrypted under those.
CREATE TABLE once (key TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT, WITHOUT ROWID;
