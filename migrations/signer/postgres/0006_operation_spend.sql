-- What an operation's transaction may cost at most, gas included, counted before it is signed, and on which UTC day (days
-- since 1970).
ALTER TABLE operations ADD COLUMN spend_wei TEXT;
ALTER TABLE operations ADD COLUMN spend_day BIGINT;
