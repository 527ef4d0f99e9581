-- The signer's books. Amounts are exact text: `n` for wei, `n` or `n/d` for rationals.
-- Nothing in here is ever deleted by the service; sequence numbers and nonces only grow.

-- One row per recipientRandHash: the only source of nonces. A nonce that was handed out stays
-- handed out, whether or not its ticket was ever stored.
CREATE TABLE nonces (
  recipient_rand_hash TEXT PRIMARY KEY,
  last_nonce          INTEGER NOT NULL CHECK (last_nonce BETWEEN 0 AND 4294967295)
) STRICT;

-- Ranges handed out, durable before anything is signed with them.
CREATE TABLE reservations (
  id                  INTEGER PRIMARY KEY AUTOINCREMENT,
  recipient_rand_hash TEXT NOT NULL REFERENCES nonces (recipient_rand_hash),
  first_nonce         INTEGER NOT NULL CHECK (first_nonce >= 1),
  last_nonce          INTEGER NOT NULL CHECK (last_nonce >= first_nonce),
  state_id            TEXT NOT NULL,
  sequence            INTEGER NOT NULL,
  reserved_at_ms      INTEGER NOT NULL,
  UNIQUE (recipient_rand_hash, first_nonce)
) STRICT;

-- One row per payment state (payment session), advanced by compare-and-swap on `sequence`.
CREATE TABLE sessions (
  state_id                TEXT PRIMARY KEY,
  account                 TEXT NOT NULL,
  idempotency_key         TEXT,
  auth_id                 TEXT NOT NULL,
  orchestrator            TEXT NOT NULL,
  app                     TEXT NOT NULL,
  job_type                TEXT NOT NULL,
  manifest_id             TEXT NOT NULL,
  manifest_named          INTEGER NOT NULL,
  initial_price_per_unit  INTEGER NOT NULL,
  initial_pixels_per_unit INTEGER NOT NULL,
  sequence                INTEGER NOT NULL,
  last_update_ns          INTEGER NOT NULL,
  tickets                 INTEGER NOT NULL,
  ticket_ev_total         TEXT NOT NULL,
  fee_total               TEXT NOT NULL,
  balance                 TEXT NOT NULL,
  created_at_ms           INTEGER NOT NULL,
  UNIQUE (account, idempotency_key)
) STRICT;

-- One row per answer given, with the bytes that a repeated request gets again.
CREATE TABLE payments (
  id                  INTEGER PRIMARY KEY AUTOINCREMENT,
  state_id            TEXT NOT NULL REFERENCES sessions (state_id),
  sequence            INTEGER NOT NULL,
  reservation_id      INTEGER NOT NULL UNIQUE REFERENCES reservations (id),
  auth_id             TEXT NOT NULL,
  job_type            TEXT NOT NULL,
  manifest_id         TEXT NOT NULL,
  manifest_named      INTEGER NOT NULL,
  recipient_rand_hash TEXT NOT NULL,
  first_nonce         INTEGER NOT NULL,
  last_nonce          INTEGER NOT NULL,
  num_tickets         INTEGER NOT NULL CHECK (num_tickets = last_nonce - first_nonce + 1),
  face_value          TEXT NOT NULL,
  win_prob            TEXT NOT NULL,
  ticket_ev           TEXT NOT NULL,
  units               INTEGER NOT NULL,
  fee                 TEXT NOT NULL,
  balance             TEXT NOT NULL,
  answer              BLOB NOT NULL,
  created_at_ms       INTEGER NOT NULL,
  UNIQUE (state_id, sequence)
) STRICT;
