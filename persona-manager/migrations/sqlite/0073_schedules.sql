-- When personas are put on by themselves: at a time, or at each time of a cron schedule.
CREATE TABLE schedules (key TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT, WITHOUT ROWID;
