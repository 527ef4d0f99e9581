-- Winners that a separate redeemer has acknowledged. Their status stays 'queued' until the chain says more: a
-- program from before this column redeems them itself, and the chain pays a ticket once.
ALTER TABLE winners ADD COLUMN handed_over_ms INTEGER;

-- What waits here, and what waits elsewhere.
CREATE INDEX winners_waiting ON winners (params_expiration_block)
  WHERE status = 'queued' AND handed_over_ms IS NULL;
CREATE INDEX winners_handed_over ON winners (creation_round)
  WHERE status = 'queued' AND handed_over_ms IS NOT NULL;
CREATE INDEX winners_by_sender ON winners (sender, status, creation_round);
