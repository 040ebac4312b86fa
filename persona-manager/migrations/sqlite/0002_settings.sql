-- What was set through the API and goes before the configuration: one record.
CREATE TABLE settings (key TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT, WITHOUT ROWID;
