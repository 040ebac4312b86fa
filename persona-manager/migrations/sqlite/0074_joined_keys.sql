-- Keys that joined with a token, each by itself: a token for thousands is not written anew for each of them.
CREATE TABLE joined_keys (key TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT, WITHOUT ROWID;
