-- Values that other systems pushed about subjects, each until its time is over.
CREATE TABLE signals (key TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT, WITHOUT ROWID;
