-- Each event with the hash of the one before it and its own. Events from before have neither: the first manager that writes
-- links to them as a whole.
ALTER TABLE events ADD COLUMN previous text, ADD COLUMN hash text;
