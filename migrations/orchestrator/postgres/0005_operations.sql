-- What the account was asked to do on the chain, by its operator or by this program: each is asked for under a key, and
-- asked for again under it, it is not done twice.
CREATE TABLE operations (
  key         TEXT PRIMARY KEY,
  -- What it is; the same key never stands for anything else.
  content     TEXT NOT NULL,
  -- begun, done, failed
  state       TEXT NOT NULL,
  -- Its transactions, as the chain's client notes them before anybody has one.
  note        BYTEA,
  -- When it is done.
  tx_hash     TEXT,
  l1_block    BIGINT,
  -- When it failed: the chain's words.
  reason      TEXT,
  begun_at_ms BIGINT NOT NULL,
  ended_at_ms BIGINT
);

CREATE INDEX operations_ended ON operations (ended_at_ms);

-- Who does one now: one row. Whoever takes it over has the next fence, and what older fences write is refused.
CREATE TABLE operations_lease (
  one      BIGINT PRIMARY KEY CHECK (one = 1),
  holder   TEXT NOT NULL,
  key      TEXT NOT NULL,
  fence    BIGINT NOT NULL,
  until_ms BIGINT NOT NULL
);
INSERT INTO operations_lease (one, holder, key, fence, until_ms) VALUES (1, '', '', 0, 0);
