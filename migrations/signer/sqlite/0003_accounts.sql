-- Who may call the signer. Rows are never deleted: a revoked key and a blocked account stay known.
-- Every row carries the number of its last change, so that replicas read only what changed.

-- The one source of change numbers. Every transaction that writes below updates this row first, so
-- that such transactions happen one after the other and commit in the order of their numbers.
CREATE TABLE account_changes (
  id  INTEGER PRIMARY KEY CHECK (id = 1),
  seq INTEGER NOT NULL CHECK (seq >= 0)
) STRICT;
INSERT INTO account_changes (id, seq) VALUES (1, 0);

-- Named policies that accounts inherit from.
CREATE TABLE tiers (
  name          TEXT PRIMARY KEY,
  policy        TEXT NOT NULL,
  state         TEXT NOT NULL CHECK (state IN ('active', 'deleted')),
  version       INTEGER NOT NULL CHECK (version >= 1),
  changed       INTEGER NOT NULL UNIQUE,
  created_at_ms INTEGER NOT NULL,
  updated_at_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE accounts (
  name          TEXT PRIMARY KEY,
  tier          TEXT REFERENCES tiers (name),
  policy        TEXT NOT NULL,
  note          TEXT NOT NULL,
  state         TEXT NOT NULL CHECK (state IN ('active', 'blocked')),
  version       INTEGER NOT NULL CHECK (version >= 1),
  changed       INTEGER NOT NULL UNIQUE,
  created_at_ms INTEGER NOT NULL,
  updated_at_ms INTEGER NOT NULL
) STRICT;

-- What proves that a caller is an account. `hash` is the SHA-256 of an API key or of a
-- certificate, in hex; the key itself is nowhere.
CREATE TABLE credentials (
  id            TEXT PRIMARY KEY,
  account       TEXT NOT NULL REFERENCES accounts (name),
  kind          TEXT NOT NULL CHECK (kind IN ('api_key', 'certificate')),
  hash          TEXT NOT NULL UNIQUE,
  note          TEXT NOT NULL,
  state         TEXT NOT NULL CHECK (state IN ('active', 'revoked')),
  expires_at_ms INTEGER,
  version       INTEGER NOT NULL CHECK (version >= 1),
  changed       INTEGER NOT NULL UNIQUE,
  created_at_ms INTEGER NOT NULL,
  updated_at_ms INTEGER NOT NULL
) STRICT;

-- Rules for single subjects of an account, where they differ from the account's.
CREATE TABLE subjects (
  account       TEXT NOT NULL REFERENCES accounts (name),
  auth_id       TEXT NOT NULL,
  policy        TEXT NOT NULL,
  state         TEXT NOT NULL CHECK (state IN ('active', 'blocked', 'deleted')),
  version       INTEGER NOT NULL CHECK (version >= 1),
  changed       INTEGER NOT NULL UNIQUE,
  created_at_ms INTEGER NOT NULL,
  updated_at_ms INTEGER NOT NULL,
  PRIMARY KEY (account, auth_id)
) STRICT;
