-- What a session's invoice shows, and what its pinned price was for.

-- The work whose offer pinned the price, as orchestrators spell it; empty is transcoding. NULL: a price
-- for terms of its own (a brought capability, a live runner), or a row from before this column.
ALTER TABLE accounts ADD COLUMN pin_work TEXT;

-- amount = units * price. began_ms: when the work began that the fee is for; created_ms is its end.
-- NULL in rows from before these columns.
ALTER TABLE debits ADD COLUMN units INTEGER;
ALTER TABLE debits ADD COLUMN price TEXT;
ALTER TABLE debits ADD COLUMN began_ms INTEGER;

CREATE INDEX accounts_by_session ON accounts (session, sender);
CREATE INDEX credits_by_account ON credits (sender, session, created_ms);
CREATE INDEX debits_by_account ON debits (sender, session, created_ms);
