-- What was taken out of the books because it is old, and up to where: one row, locked by whoever
-- is taking more.
CREATE TABLE retention (
  one           INTEGER PRIMARY KEY CHECK (one = 1),
  -- Payments up to this one, by time and number, have no whole answers any more.
  answers_at_ms BIGINT NOT NULL,
  answers_id    BIGINT NOT NULL,
  -- Payments from this moment on are all there; earlier ones may be in usage_lines only.
  before_ms     BIGINT NOT NULL,
  -- How many are.
  payments      BIGINT NOT NULL,
  tickets       BIGINT NOT NULL
);
INSERT INTO retention (one, answers_at_ms, answers_id, before_ms, payments, tickets)
VALUES (1, 0, 0, 0, 0, 0);

-- Payments that are no rows any more, added up by day (since 1970-01-01), account, subject and
-- denominator of the fees: exact, like totals.
CREATE TABLE usage_lines (
  n               BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  day             BIGINT NOT NULL,
  account         TEXT NOT NULL,
  auth_id         TEXT NOT NULL,
  denominator     NUMERIC NOT NULL,
  payments        BIGINT NOT NULL,
  tickets         BIGINT NOT NULL,
  charged         NUMERIC NOT NULL,
  ticket_ev_parts NUMERIC NOT NULL,
  fee_parts       NUMERIC NOT NULL,
  UNIQUE (day, account, auth_id, denominator)
);
