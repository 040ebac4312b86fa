-- Links that log a browser in, once, and sessions of people at the page; without their secrets.
CREATE TABLE web_links (key TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE web_sessions (key TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT, WITHOUT ROWID;
