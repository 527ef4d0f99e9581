-- The orchestrator's books. Amounts of wei and exact rationals are text (n or n/d), hashes and
-- addresses are lowercase hex text with 0x, times are Unix milliseconds.

-- One row per (sender, balance key): orchestrator-wire.md section 7 says what the key is.
-- balance = credited - debited; both only grow.
CREATE TABLE accounts (
  sender           TEXT    NOT NULL,
  session          TEXT    NOT NULL,
  credited         TEXT    NOT NULL DEFAULT '0',
  debited          TEXT    NOT NULL DEFAULT '0',
  tickets          INTEGER NOT NULL DEFAULT 0,
  -- Wei per unit, pinned by the first payment; and what the key's work cost at least just then.
  fixed_price      TEXT,
  pin_floor        TEXT,
  created_ms       INTEGER NOT NULL,
  updated_ms       INTEGER NOT NULL,
  PRIMARY KEY (sender, session)
) WITHOUT ROWID;
CREATE INDEX accounts_by_update ON accounts (updated_ms);

-- Journal of what was credited, one row per payment that credited something.
CREATE TABLE credits (
  id                  INTEGER PRIMARY KEY,
  sender              TEXT    NOT NULL,
  session             TEXT    NOT NULL,
  recipient_rand_hash TEXT    NOT NULL,
  tickets             INTEGER NOT NULL,
  amount              TEXT    NOT NULL,
  created_ms          INTEGER NOT NULL,
  FOREIGN KEY (sender, session) REFERENCES accounts (sender, session)
);

-- Journal of debits. The job id is the caller's: a repeated one changes nothing.
CREATE TABLE debits (
  job_id      TEXT    PRIMARY KEY,
  sender      TEXT    NOT NULL,
  session     TEXT    NOT NULL,
  amount      TEXT    NOT NULL,
  created_ms  INTEGER NOT NULL,
  FOREIGN KEY (sender, session) REFERENCES accounts (sender, session)
) WITHOUT ROWID;

-- Which sender nonces were seen for which offer (payments.md section 10), until the offer expires.
CREATE TABLE nonce_sets (
  recipient_rand_hash TEXT    PRIMARY KEY,
  expiration_block    INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX nonce_sets_by_expiry ON nonce_sets (expiration_block);
CREATE TABLE nonces (
  recipient_rand_hash TEXT    NOT NULL REFERENCES nonce_sets (recipient_rand_hash) ON DELETE CASCADE,
  nonce               INTEGER NOT NULL,
  PRIMARY KEY (recipient_rand_hash, nonce)
) WITHOUT ROWID;

-- Offers that expired at or before this block have no nonce set any more, so that their tickets
-- are refused even if the chain's block number should go backwards.
CREATE TABLE horizon (
  id                   INTEGER PRIMARY KEY CHECK (id = 1),
  forgotten_through    INTEGER NOT NULL
);
INSERT INTO horizon (id, forgotten_through) VALUES (1, -1);

-- Winning tickets. The ticket hash is what the chain refuses to pay twice.
CREATE TABLE winners (
  id                        INTEGER PRIMARY KEY,
  ticket_hash               TEXT    NOT NULL UNIQUE,
  sender                    TEXT    NOT NULL,
  recipient                 TEXT    NOT NULL,
  session                   TEXT    NOT NULL,
  face_value                TEXT    NOT NULL,
  win_prob                  TEXT    NOT NULL,
  sender_nonce              INTEGER NOT NULL,
  recipient_rand_hash       TEXT    NOT NULL,
  creation_round            INTEGER NOT NULL,
  creation_round_block_hash TEXT    NOT NULL,
  sig                       TEXT    NOT NULL,
  recipient_rand            TEXT    NOT NULL,
  params_expiration_block   INTEGER NOT NULL,
  status                    TEXT    NOT NULL CHECK (status IN ('queued', 'redeeming', 'redeemed', 'failed')),
  attempts                  INTEGER NOT NULL DEFAULT 0,
  retry_block               INTEGER NOT NULL DEFAULT 0,
  tx_hash                   TEXT,
  reason                    TEXT,
  created_ms                INTEGER NOT NULL,
  updated_ms                INTEGER NOT NULL
);
CREATE INDEX winners_by_status ON winners (status, params_expiration_block);
