-- Training jobs of brought capabilities: they outlive the process that watches them.
CREATE TABLE trainings (
  id         TEXT    PRIMARY KEY,
  -- Who pays for it.
  sender     TEXT    NOT NULL,
  session    TEXT    NOT NULL,
  -- What was agreed when it began, and how it stands.
  terms      TEXT    NOT NULL,
  standing   TEXT    NOT NULL,
  -- Who watches it. NULL: nobody.
  process    TEXT,
  attempt    TEXT,
  created_ms INTEGER NOT NULL,
  updated_ms INTEGER NOT NULL,
  ended_ms   INTEGER
) STRICT;

CREATE INDEX trainings_open ON trainings (created_ms, id) WHERE ended_ms IS NULL;
CREATE INDEX trainings_ended ON trainings (ended_ms, id) WHERE ended_ms IS NOT NULL;
