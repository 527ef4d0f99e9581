-- What the journals held of an account before their old rows went.
ALTER TABLE accounts ADD COLUMN folded_credits TEXT NOT NULL DEFAULT '0';
ALTER TABLE accounts ADD COLUMN folded_debits  TEXT NOT NULL DEFAULT '0';
CREATE INDEX credits_by_age ON credits (created_ms);
CREATE INDEX debits_by_age ON debits (created_ms);

-- What one process at a time does. The fence grows with each new owner; the file has one user at a
-- time, so that another owner is a dead one.
CREATE TABLE leases (
  name  TEXT    PRIMARY KEY,
  owner TEXT    NOT NULL,
  fence INTEGER NOT NULL
) WITHOUT ROWID;

-- One-way marks of what all processes must have in common.
CREATE TABLE marks (
  name TEXT PRIMARY KEY,
  mark TEXT NOT NULL
) WITHOUT ROWID;
