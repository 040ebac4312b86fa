-- Every record as JSON by its table and key, with the revision that wrote it; a body that is null was deleted, and stays
-- for a while so that the managers that follow learn of it. Leased ports stand apart, so that PostgreSQL itself refuses
-- to lease one twice: a port of an IPv4 address is the number (address << 16) + port, a prefix its upper 64 bits.
CREATE TABLE meta (name text PRIMARY KEY, value bigint NOT NULL);
CREATE TABLE leader (only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one), epoch bigint NOT NULL, url text NOT NULL);
CREATE TABLE records (
    tbl text NOT NULL, key text NOT NULL, body text, revision bigint NOT NULL, PRIMARY KEY (tbl, key)
);
CREATE INDEX records_by_revision ON records (revision);
CREATE TABLE lease_ports (
    lease bigint NOT NULL, ports int8range NOT NULL,
    CONSTRAINT lease_ports_never_overlap EXCLUDE USING gist (ports WITH &&)
);
CREATE INDEX lease_ports_by_lease ON lease_ports (lease);
CREATE TABLE lease_prefixes (prefix bigint PRIMARY KEY, lease bigint NOT NULL);
CREATE INDEX lease_prefixes_by_lease ON lease_prefixes (lease);
CREATE TABLE events (
    number bigint PRIMARY KEY, time_ms bigint NOT NULL, name text NOT NULL, about text NOT NULL, actor text NOT NULL,
    message text NOT NULL, details text NOT NULL
);
INSERT INTO leader (epoch, url) VALUES (0, '');
INSERT INTO meta VALUES ('incarnation', 1), ('revision', 0), ('pruned', 0);
