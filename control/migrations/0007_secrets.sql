-- Secrets of apps, sealed with a key that is not in the database: those that the next deployment
-- gets, and every former value that a kept deployment names.
CREATE TABLE secrets (
  app TEXT NOT NULL,
  name TEXT NOT NULL,
  -- The revision that wrote it, so that a version never means two values.
  version BIGINT NOT NULL,
  -- 1 for what the next deployment gets.
  is_live BIGINT NOT NULL,
  key_id TEXT NOT NULL,
  sealed TEXT NOT NULL,
  written_at BIGINT NOT NULL,
  PRIMARY KEY (app, name, version)
);
CREATE INDEX secrets_key ON secrets (key_id);
