-- Who is told: objects like the others, with all that is written of them sealed here, because a URL
-- may be a secret too. Those that were written unsealed are gone; they are written again.
DROP TABLE notifiers;
CREATE TABLE notifiers (
  name TEXT PRIMARY KEY,
  key_id TEXT NOT NULL,
  sealed TEXT NOT NULL,
  has_secret BIGINT NOT NULL
);
CREATE INDEX notifiers_key ON notifiers (key_id);
DELETE FROM outbox;
-- Operations that deploy an image to the apps on a shard's hosts, some at a time.
CREATE TABLE rolling_updates (
  operation BIGINT PRIMARY KEY,
  image TEXT NOT NULL,
  -- So many are on their way at once.
  parallel BIGINT NOT NULL,
  -- So many may fail; one more, and no other is begun.
  may_fail BIGINT NOT NULL
);
CREATE TABLE rolling_update_apps (
  operation BIGINT NOT NULL,
  app TEXT NOT NULL,
  -- The deployment that is or was made for it; null until it is its turn.
  deployment BIGINT,
  -- Why none could be made.
  failure TEXT,
  PRIMARY KEY (operation, app)
);
