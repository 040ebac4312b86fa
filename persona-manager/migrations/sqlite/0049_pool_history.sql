-- How full egress pools were, by the hour, for a month.
CREATE TABLE pool_history (key TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT, WITHOUT ROWID;
