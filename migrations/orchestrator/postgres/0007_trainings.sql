-- Training jobs of brought capabilities: they outlive the process that watches them.
CREATE TABLE trainings (
  id         TEXT   COLLATE "C" PRIMARY KEY,
  -- Who pays for it.
  sender     TEXT   COLLATE "C" NOT NULL,
  session    TEXT   COLLATE "C" NOT NULL,
  -- What was agreed when it began, and how it stands.
  terms      TEXT   NOT NULL,
  standing   TEXT   NOT NULL,
  -- Who watches it. NULL, or a dead one: nobody.
  process    BYTEA,
  attempt    BYTEA,
  created_ms BIGINT NOT NULL,
  updated_ms BIGINT NOT NULL,
  ended_ms   BIGINT
);

CREATE INDEX trainings_open ON trainings (created_ms, id) WHERE ended_ms IS NULL;
CREATE INDEX trainings_ended ON trainings (ended_ms, id) WHERE ended_ms IS NOT NULL;
