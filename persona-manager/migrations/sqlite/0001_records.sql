-- One table per kind of record: the key by which it is found, and the record as JSON.
-- Events are numbered without gaps. Leased blocks stand apart, so that SQLite itself refuses to lease one twice.
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE documents (key TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE document_versions (key TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE join_tokens (key TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE agents (key TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE workloads (key TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE subjects (key TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE leases (key TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE publications (key TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE lease_blocks (
    address TEXT NOT NULL, first_port INTEGER NOT NULL, last_port INTEGER NOT NULL, lease TEXT NOT NULL,
    PRIMARY KEY (address, first_port)
) STRICT, WITHOUT ROWID;
CREATE INDEX lease_blocks_by_lease ON lease_blocks (lease);
CREATE TRIGGER lease_blocks_never_overlap BEFORE INSERT ON lease_blocks
WHEN EXISTS (
    SELECT 1 FROM lease_blocks AS held
    WHERE held.address = NEW.address AND held.first_port <= NEW.last_port AND held.last_port >= NEW.first_port
)
BEGIN SELECT RAISE(ABORT, 'a port block would be leased twice'); END;
CREATE TABLE events (
    number INTEGER PRIMARY KEY, time_ms INTEGER NOT NULL, name TEXT NOT NULL, about TEXT NOT NULL, actor TEXT NOT NULL,
    message TEXT NOT NULL, details TEXT NOT NULL
) STRICT;
