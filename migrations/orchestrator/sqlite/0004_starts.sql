-- Accounts that were paid for a session that has not begun. The row goes when the session begins. With no
-- process, or a dead one, it is what its sender's next session begins with.
CREATE TABLE starts (
  sender     TEXT    NOT NULL,
  session    TEXT    NOT NULL,
  process    TEXT,
  created_ms INTEGER NOT NULL,
  PRIMARY KEY (sender, session),
  FOREIGN KEY (sender, session) REFERENCES accounts (sender, session)
) WITHOUT ROWID;
