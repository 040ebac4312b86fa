-- Each event with the hash of the one before it and its own; and what stands for events that were dropped for their age.
-- Events from before have neither: the first manager that writes links to them as a whole.
ALTER TABLE events ADD COLUMN previous TEXT;
ALTER TABLE events ADD COLUMN hash TEXT;
CREATE TABLE audit_stub (key TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT, WITHOUT ROWID;
