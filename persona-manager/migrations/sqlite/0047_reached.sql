-- How many subjects changes by people and programs have reached, by the minute, for an hour.
CREATE TABLE reached (key TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT, WITHOUT ROWID;
