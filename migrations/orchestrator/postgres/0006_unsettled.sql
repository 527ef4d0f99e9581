-- Of a redemption whose block its chain may still take back: that block, of the chain's own, or 0 when it is not known.
-- NULL: it is final. What was redeemed before this column, or by a program from before it, is not looked at again.
ALTER TABLE winners ADD COLUMN unsettled_block BIGINT;
CREATE INDEX winners_unsettled ON winners (unsettled_block)
  WHERE status = 'redeemed' AND unsettled_block IS NOT NULL;
