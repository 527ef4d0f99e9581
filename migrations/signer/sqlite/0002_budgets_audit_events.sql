-- Budgets, audit, events; reservations that end; totals that are kept.
-- Whole wei are decimal text, fractions `n/d`; hashes and random ids are blobs, but for
-- recipient_rand_hash, which stays the text that it was.

-- What was charged to whom in which period: Σ of stored payments + Σ of open reservations.
CREATE TABLE counters (
  key     TEXT PRIMARY KEY,
  charged TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Rows of the old reservations say nothing any more: payments have their nonces, and `nonces` says
-- which are gone. From here on a row is a reservation that is still open.
CREATE TABLE open_reservations (
  id                  BLOB PRIMARY KEY,
  state_id            TEXT NOT NULL,
  sequence            INTEGER NOT NULL,
  account             TEXT NOT NULL,
  auth_id             TEXT NOT NULL,
  recipient_rand_hash TEXT NOT NULL,
  first_nonce         INTEGER NOT NULL CHECK (first_nonce >= 1),
  last_nonce          INTEGER NOT NULL CHECK (last_nonce >= first_nonce),
  amount              TEXT NOT NULL,
  counters            TEXT NOT NULL,
  reserved_at_ms      INTEGER NOT NULL,
  expires_at_ms       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE new_nonces (
  recipient_rand_hash TEXT PRIMARY KEY,
  last_nonce          INTEGER NOT NULL CHECK (last_nonce BETWEEN 0 AND 4294967295)
) STRICT, WITHOUT ROWID;
INSERT INTO new_nonces SELECT recipient_rand_hash, last_nonce FROM nonces ORDER BY 1;

CREATE TABLE new_sessions (
  id                      INTEGER PRIMARY KEY,
  state_id                TEXT NOT NULL UNIQUE,
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
  created_at_ms           INTEGER NOT NULL
) STRICT;
INSERT INTO new_sessions
  (id, state_id, account, idempotency_key, auth_id, orchestrator, app, job_type, manifest_id,
   manifest_named, initial_price_per_unit, initial_pixels_per_unit, sequence, last_update_ns,
   tickets, ticket_ev_total, fee_total, balance, created_at_ms)
SELECT rowid, state_id, account, idempotency_key, auth_id, orchestrator, app, job_type, manifest_id,
   manifest_named, initial_price_per_unit, initial_pixels_per_unit, sequence, last_update_ns,
   tickets, ticket_ev_total, fee_total, balance, created_at_ms
FROM sessions ORDER BY rowid;

CREATE TABLE new_payments (
  id                  INTEGER PRIMARY KEY,
  state_id            TEXT NOT NULL REFERENCES new_sessions (state_id),
  sequence            INTEGER NOT NULL,
  reservation_id      BLOB,
  account             TEXT NOT NULL,
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
  charged             TEXT NOT NULL,
  auth_expiry         INTEGER NOT NULL,
  answer              BLOB NOT NULL,
  created_at_ms       INTEGER NOT NULL,
  UNIQUE (state_id, sequence)
) STRICT;
INSERT INTO new_payments
  (id, state_id, sequence, reservation_id, account, auth_id, job_type, manifest_id, manifest_named,
   recipient_rand_hash, first_nonce, last_nonce, num_tickets, face_value, win_prob, ticket_ev,
   units, fee, balance, charged, auth_expiry, answer, created_at_ms)
SELECT p.id, p.state_id, p.sequence, NULL, s.account, p.auth_id, p.job_type, p.manifest_id,
   p.manifest_named, p.recipient_rand_hash, p.first_nonce, p.last_nonce, p.num_tickets,
   p.face_value, p.win_prob, p.ticket_ev, p.units, p.fee, p.balance, '0', 0, p.answer,
   p.created_at_ms
FROM payments p JOIN sessions s ON s.state_id = p.state_id ORDER BY p.id;

DROP TABLE payments;
DROP TABLE reservations;
DROP TABLE nonces;
DROP TABLE sessions;
ALTER TABLE new_sessions RENAME TO sessions;
ALTER TABLE new_payments RENAME TO payments;
ALTER TABLE new_nonces RENAME TO nonces;
ALTER TABLE open_reservations RENAME TO reservations;

CREATE UNIQUE INDEX sessions_by_key ON sessions (account, idempotency_key)
  WHERE idempotency_key IS NOT NULL;
CREATE INDEX payments_by_time ON payments (created_at_ms);

-- Sums per writer and per denominator of the fees; the ledger fills them for old rows when it opens.
CREATE TABLE totals (
  writer          TEXT NOT NULL,
  denominator     TEXT NOT NULL,
  payments        INTEGER NOT NULL,
  tickets         INTEGER NOT NULL,
  ticket_ev_parts TEXT NOT NULL,
  fee_parts       TEXT NOT NULL,
  PRIMARY KEY (writer, denominator)
) STRICT, WITHOUT ROWID;

-- Events that wait for delivery, oldest first.
CREATE TABLE outbox (
  n             INTEGER PRIMARY KEY,
  id            BLOB NOT NULL UNIQUE,
  state_id      TEXT NOT NULL,
  sequence      INTEGER NOT NULL,
  payload       BLOB NOT NULL,
  created_at_ms INTEGER NOT NULL
) STRICT;

-- Who may deliver them: one row.
CREATE TABLE outbox_lease (
  one      INTEGER PRIMARY KEY CHECK (one = 1),
  holder   BLOB NOT NULL,
  fence    INTEGER NOT NULL,
  until_ms INTEGER NOT NULL
) STRICT;

-- One hash chain per process; `seq` and `hash` are its head.
CREATE TABLE audit_chains (
  id            INTEGER PRIMARY KEY,
  name          TEXT NOT NULL UNIQUE,
  started_at_ms INTEGER NOT NULL,
  seq           INTEGER NOT NULL,
  hash          BLOB NOT NULL
) STRICT;

-- How much of a chain another one has seen.
CREATE TABLE audit_anchored (
  chain_id INTEGER PRIMARY KEY REFERENCES audit_chains (id),
  seq      INTEGER NOT NULL
) STRICT;

-- Append-only: one row a signature, written before it is made.
CREATE TABLE audit (
  chain_id  INTEGER NOT NULL,
  seq       INTEGER NOT NULL,
  at_ms     INTEGER NOT NULL,
  kind      TEXT NOT NULL,
  digest    BLOB NOT NULL,
  account   TEXT NOT NULL,
  auth_id   TEXT NOT NULL,
  reference TEXT NOT NULL,
  hash      BLOB NOT NULL,
  PRIMARY KEY (chain_id, seq)
) STRICT, WITHOUT ROWID;
