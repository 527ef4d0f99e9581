-- Accounts that were paid for a session that has not begun. The row goes when the session begins. With no
-- process, or a dead one, it is what its sender's next session begins with.
CREATE TABLE starts (
  sender     TEXT   COLLATE "C" NOT NULL,
  session    TEXT   COLLATE "C" NOT NULL,
  process    BYTEA,
  created_ms BIGINT NOT NULL,
  PRIMARY KEY (sender, session)
);
