-- Access tokens of people and programs, without their secrets.
CREATE TABLE access_tokens (key TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT, WITHOUT ROWID;
