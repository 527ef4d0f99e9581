-- The signer's books, shared by its replicas. Whole wei are NUMERIC(78,0), fractions the text
-- `n/d`. Nothing rests on isolation levels: rows change only from what was read, and unique
-- constraints say who was first.

-- One row per recipientRandHash: the only source of nonces. A nonce that was handed out stays
-- handed out, whether or not its ticket was ever stored.
CREATE TABLE nonces (
  recipient_rand_hash BYTEA PRIMARY KEY,
  last_nonce          BIGINT NOT NULL CHECK (last_nonce BETWEEN 0 AND 4294967295)
) WITH (fillfactor = 80);

-- What was charged to whom in which period: Σ of stored payments + Σ of open reservations.
CREATE TABLE counters (
  key     TEXT PRIMARY KEY,
  charged NUMERIC(78, 0) NOT NULL CHECK (charged >= 0)
) WITH (fillfactor = 50);

-- Open reservations: nonces and budget held for a payment that is being signed.
CREATE TABLE reservations (
  id                  BYTEA PRIMARY KEY,
  state_id            TEXT NOT NULL,
  sequence            BIGINT NOT NULL,
  account             TEXT NOT NULL,
  auth_id             TEXT NOT NULL,
  recipient_rand_hash BYTEA NOT NULL,
  first_nonce         BIGINT NOT NULL CHECK (first_nonce >= 1),
  last_nonce          BIGINT NOT NULL CHECK (last_nonce >= first_nonce),
  amount              NUMERIC(78, 0) NOT NULL CHECK (amount >= 0),
  counters            TEXT NOT NULL,
  reserved_at_ms      BIGINT NOT NULL,
  expires_at_ms       BIGINT NOT NULL
);

-- One row per payment state (payment session), advanced by compare-and-swap on `sequence`.
CREATE TABLE sessions (
  id                      BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  state_id                TEXT NOT NULL UNIQUE,
  account                 TEXT NOT NULL,
  idempotency_key         TEXT,
  auth_id                 TEXT NOT NULL,
  orchestrator            TEXT NOT NULL,
  app                     TEXT NOT NULL,
  job_type                TEXT NOT NULL,
  manifest_id             TEXT NOT NULL,
  manifest_named          BOOLEAN NOT NULL,
  initial_price_per_unit  BIGINT NOT NULL,
  initial_pixels_per_unit BIGINT NOT NULL,
  sequence                BIGINT NOT NULL,
  last_update_ns          BIGINT NOT NULL,
  tickets                 BIGINT NOT NULL,
  ticket_ev_total         TEXT NOT NULL,
  fee_total               TEXT NOT NULL,
  balance                 TEXT NOT NULL,
  created_at_ms           BIGINT NOT NULL
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX sessions_by_key ON sessions (account, idempotency_key)
  WHERE idempotency_key IS NOT NULL;

-- One row per answer given, with the bytes that a repeated request gets again.
CREATE TABLE payments (
  id                  BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  state_id            TEXT NOT NULL REFERENCES sessions (state_id),
  sequence            BIGINT NOT NULL,
  reservation_id      BYTEA,
  account             TEXT NOT NULL,
  auth_id             TEXT NOT NULL,
  job_type            TEXT NOT NULL,
  manifest_id         TEXT NOT NULL,
  manifest_named      BOOLEAN NOT NULL,
  recipient_rand_hash BYTEA NOT NULL,
  first_nonce         BIGINT NOT NULL,
  last_nonce          BIGINT NOT NULL,
  num_tickets         BIGINT NOT NULL CHECK (num_tickets = last_nonce - first_nonce + 1),
  face_value          NUMERIC(78, 0) NOT NULL,
  win_prob            NUMERIC(78, 0) NOT NULL,
  ticket_ev           TEXT NOT NULL,
  units               BIGINT NOT NULL,
  fee                 TEXT NOT NULL,
  balance             TEXT NOT NULL,
  charged             NUMERIC(78, 0) NOT NULL,
  auth_expiry         BIGINT NOT NULL,
  answer              BYTEA NOT NULL,
  created_at_ms       BIGINT NOT NULL,
  UNIQUE (state_id, sequence)
);
CREATE INDEX payments_by_time ON payments (created_at_ms);

-- Sums per writer and per denominator of the fees, so that no two replicas wait for each other.
CREATE TABLE totals (
  writer          TEXT NOT NULL,
  denominator     NUMERIC NOT NULL,
  payments        BIGINT NOT NULL,
  tickets         BIGINT NOT NULL,
  ticket_ev_parts NUMERIC NOT NULL,
  fee_parts       NUMERIC NOT NULL,
  PRIMARY KEY (writer, denominator)
) WITH (fillfactor = 50);

-- Events that wait for delivery. A payment's event gets its number after the event of the payment
-- before it was committed, so that within a session numbers follow the sequence.
CREATE TABLE outbox (
  n             BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id            BYTEA NOT NULL UNIQUE,
  state_id      TEXT NOT NULL,
  sequence      BIGINT NOT NULL,
  payload       BYTEA NOT NULL,
  created_at_ms BIGINT NOT NULL
);

-- Who may deliver them: one row.
CREATE TABLE outbox_lease (
  one      INTEGER PRIMARY KEY CHECK (one = 1),
  holder   BYTEA NOT NULL,
  fence    BIGINT NOT NULL,
  until_ms BIGINT NOT NULL
);

-- One hash chain per process; `seq` and `hash` are its head.
CREATE TABLE audit_chains (
  id            BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name          TEXT NOT NULL UNIQUE,
  started_at_ms BIGINT NOT NULL,
  seq           BIGINT NOT NULL,
  hash          BYTEA NOT NULL
) WITH (fillfactor = 50);

-- How much of a chain another one has seen. A table of its own: a process that anchors never waits
-- for the head of a chain that another one is writing to.
CREATE TABLE audit_anchored (
  chain_id BIGINT PRIMARY KEY REFERENCES audit_chains (id),
  seq      BIGINT NOT NULL
);

-- Append-only: one row a signature, written before it is made.
CREATE TABLE audit (
  chain_id  BIGINT NOT NULL,
  seq       BIGINT NOT NULL,
  at_ms     BIGINT NOT NULL,
  kind      TEXT NOT NULL,
  digest    BYTEA NOT NULL,
  account   TEXT NOT NULL,
  auth_id   TEXT NOT NULL,
  reference TEXT NOT NULL,
  hash      BYTEA NOT NULL,
  PRIMARY KEY (chain_id, seq)
);
