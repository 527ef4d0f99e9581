-- Who may call the signer. Rows are never deleted: a revoked key and a blocked account stay known.
-- Every row carries the number of its last change, so that replicas read only what changed.

-- The one source of change numbers. Every transaction that writes below updates this row first, so
-- that such transactions happen one after the other and commit in the order of their numbers.
CREATE TABLE account_changes (
  id  BIGINT PRIMARY KEY CHECK (id = 1),
  seq BIGINT NOT NULL CHECK (seq >= 0)
);
INSERT INTO account_changes (id, seq) VALUES (1, 0);

-- Named policies that accounts inherit from.
CREATE TABLE tiers (
  name          TEXT PRIMARY KEY,
  policy        TEXT NOT NULL,
  state         TEXT NOT NULL CHECK (state IN ('active', 'deleted')),
  version       BIGINT NOT NULL CHECK (version >= 1),
  changed       BIGINT NOT NULL UNIQUE,
  created_at_ms BIGINT NOT NULL,
  updated_at_ms BIGINT NOT NULL
);

CREATE TABLE accounts (
  name          TEXT PRIMARY KEY,
  tier          TEXT REFERENCES tiers (name),
  policy        TEXT NOT NULL,
  note          TEXT NOT NULL,
  state         TEXT NOT NULL CHECK (state IN ('active', 'blocked')),
  version       BIGINT NOT NULL CHECK (version >= 1),
  changed       BIGINT NOT NULL UNIQUE,
  created_at_ms BIGINT NOT NULL,
  updated_at_ms BIGINT NOT NULL
);

-- What proves that a caller is an account. `hash` is the SHA-256 of an API key or of a
-- certificate, in hex; the key itself is nowhere.
CREATE TABLE credentials (
  id            TEXT PRIMARY KEY,
  account       TEXT NOT NULL REFERENCES accounts (name),
  kind          TEXT NOT NULL CHECK (kind IN ('api_key', 'certificate')),
  hash          TEXT NOT NULL UNIQUE,
  note          TEXT NOT NULL,
  state         TEXT NOT NULL CHECK (state IN ('active', 'revoked')),
  expires_at_ms BIGINT,
  version       BIGINT NOT NULL CHECK (version >= 1),
  changed       BIGINT NOT NULL UNIQUE,
  created_at_ms BIGINT NOT NULL,
  updated_at_ms BIGINT NOT NULL
);

-- Rules for single subjects of an account, where they differ from the account's.
CREATE TABLE subjects (
  account       TEXT NOT NULL REFERENCES accounts (name),
  auth_id       TEXT NOT NULL,
  policy        TEXT NOT NULL,
  state         TEXT NOT NULL CHECK (state IN ('active', 'blocked', 'deleted')),
  version       BIGINT NOT NULL CHECK (version >= 1),
  changed       BIGINT NOT NULL UNIQUE,
  created_at_ms BIGINT NOT NULL,
  updated_at_ms BIGINT NOT NULL,
  PRIMARY KEY (account, auth_id)
);
