-- The orchestrator's books, shared by its processes. Amounts of wei and exact rationals are text (n or
-- n/d), hashes and addresses are lowercase hex text with 0x, times are Unix milliseconds; what lapses
-- does so by the server's own clock.

-- One row per (sender, balance key): orchestrator-wire.md section 7 says what the key is.
-- balance = credited - debited; both only grow. Every change is made under this row's lock.
CREATE TABLE accounts (
  sender         TEXT   COLLATE "C" NOT NULL,
  session        TEXT   COLLATE "C" NOT NULL,
  credited       TEXT   NOT NULL DEFAULT '0',
  debited        TEXT   NOT NULL DEFAULT '0',
  tickets        BIGINT NOT NULL DEFAULT 0,
  -- Wei per unit, pinned by the first payment; and what the key's work cost at least just then.
  fixed_price    TEXT,
  pin_floor      TEXT,
  -- The work whose offer pinned it, as orchestrators spell it; empty is transcoding. NULL: a price for
  -- terms of its own (a brought capability, a live runner).
  pin_work       TEXT,
  -- What the journals held of this account before their old rows went.
  folded_credits TEXT   NOT NULL DEFAULT '0',
  folded_debits  TEXT   NOT NULL DEFAULT '0',
  created_ms     BIGINT NOT NULL,
  updated_ms     BIGINT NOT NULL,
  PRIMARY KEY (sender, session)
);
CREATE INDEX accounts_by_update ON accounts (updated_ms);
CREATE INDEX accounts_by_session ON accounts (session, sender);

-- Journal of what was credited, one row per payment that credited something.
CREATE TABLE credits (
  id                  BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  sender              TEXT   COLLATE "C" NOT NULL,
  session             TEXT   COLLATE "C" NOT NULL,
  recipient_rand_hash TEXT   NOT NULL,
  tickets             BIGINT NOT NULL,
  amount              TEXT   NOT NULL,
  created_ms          BIGINT NOT NULL
);
CREATE INDEX credits_by_age ON credits (created_ms);
CREATE INDEX credits_by_account ON credits (sender, session, created_ms);

-- Journal of debits. The job id is the caller's: a repeated one changes nothing.
CREATE TABLE debits (
  job_id     TEXT   COLLATE "C" PRIMARY KEY,
  sender     TEXT   COLLATE "C" NOT NULL,
  session    TEXT   COLLATE "C" NOT NULL,
  -- units * price, where they are kept.
  amount     TEXT   NOT NULL,
  units      BIGINT,
  price      TEXT,
  -- When the work began that the fee is for; created_ms is its end.
  began_ms   BIGINT,
  created_ms BIGINT NOT NULL
);
CREATE INDEX debits_by_age ON debits (created_ms);
CREATE INDEX debits_by_account ON debits (sender, session, created_ms);

-- Which sender nonces were seen for which offer (payments.md section 10), until the offer expires. At
-- most 600 of them; the list only grows, so that its length is its version.
CREATE TABLE nonce_sets (
  recipient_rand_hash TEXT     COLLATE "C" PRIMARY KEY,
  expiration_block    BIGINT   NOT NULL,
  nonces              BIGINT[] NOT NULL
);
CREATE INDEX nonce_sets_by_expiry ON nonce_sets (expiration_block);

-- Offers that expired at or before this block have no nonce set any more, so that their tickets
-- are refused even if the chain's block number should go backwards.
CREATE TABLE horizon (
  id                INTEGER PRIMARY KEY CHECK (id = 1),
  forgotten_through BIGINT  NOT NULL
);
INSERT INTO horizon (id, forgotten_through) VALUES (1, -1);

-- Winning tickets. The ticket hash is what the chain refuses to pay twice.
CREATE TABLE winners (
  id                        BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  ticket_hash               TEXT    COLLATE "C" NOT NULL UNIQUE,
  sender                    TEXT    COLLATE "C" NOT NULL,
  recipient                 TEXT    NOT NULL,
  session                   TEXT    NOT NULL,
  face_value                TEXT    NOT NULL,
  win_prob                  TEXT    NOT NULL,
  sender_nonce              BIGINT  NOT NULL,
  recipient_rand_hash       TEXT    NOT NULL,
  creation_round            BIGINT  NOT NULL,
  creation_round_block_hash TEXT    NOT NULL,
  sig                       TEXT    NOT NULL,
  recipient_rand            TEXT    NOT NULL,
  params_expiration_block   BIGINT  NOT NULL,
  status                    TEXT    NOT NULL CHECK (status IN ('queued', 'redeeming', 'redeemed', 'failed')),
  attempts                  BIGINT  NOT NULL DEFAULT 0,
  retry_block               BIGINT  NOT NULL DEFAULT 0,
  tx_hash                   TEXT,
  reason                    TEXT,
  created_ms                BIGINT  NOT NULL,
  updated_ms                BIGINT  NOT NULL
);
CREATE INDEX winners_by_status ON winners (status, params_expiration_block);

-- The processes that use these books. One that does not renew its row has died.
CREATE TABLE processes (
  id          BYTEA       PRIMARY KEY,
  lease_until TIMESTAMPTZ NOT NULL
);

-- What jobs under way are going to cost. They end with their process, and so do these.
CREATE TABLE holds (
  id      BYTEA PRIMARY KEY,
  process BYTEA NOT NULL REFERENCES processes (id) ON DELETE CASCADE,
  sender  TEXT  COLLATE "C" NOT NULL,
  session TEXT  COLLATE "C" NOT NULL,
  amount  TEXT  NOT NULL
);
CREATE INDEX holds_by_account ON holds (sender, session);
CREATE INDEX holds_by_process ON holds (process);

-- What one process at a time does. The fence grows with each new owner.
CREATE TABLE leases (
  name        TEXT        COLLATE "C" PRIMARY KEY,
  owner       BYTEA       NOT NULL,
  fence       BIGINT      NOT NULL,
  lease_until TIMESTAMPTZ NOT NULL
);

-- One-way marks of what all processes must have in common.
CREATE TABLE marks (
  name TEXT COLLATE "C" PRIMARY KEY,
  mark TEXT NOT NULL
);
