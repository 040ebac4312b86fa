-- Changes for many subjects that are made in waves, and their members in the order in which they are moved.
CREATE TABLE rollouts (key TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE rollout_members (key TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT, WITHOUT ROWID;
