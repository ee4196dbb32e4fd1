-- What grows by one and never repeats, also when the rows that it has numbered are gone.
CREATE TABLE counters (
  name TEXT PRIMARY KEY,
  last BIGINT NOT NULL
);
-- What somebody asked for: who, what, and the spec before and after. What comes of it is looked up
-- in the object until that is final; then it is noted here.
CREATE TABLE operations (
  number BIGINT PRIMARY KEY,
  at BIGINT NOT NULL,
  actor TEXT NOT NULL,
  verb TEXT NOT NULL,
  kind TEXT NOT NULL,
  name TEXT NOT NULL,
  generation BIGINT NOT NULL,
  deployment BIGINT,
  -- Null if nothing that is meant has changed, as when an app is woken.
  revision BIGINT,
  before TEXT,
  after TEXT,
  -- Null until it is settled.
  state TEXT,
  message TEXT,
  settled_at BIGINT
);
CREATE INDEX operations_object ON operations (kind, name, number);
CREATE INDEX operations_open ON operations (number) WHERE state IS NULL;
CREATE INDEX operations_at ON operations (at);
INSERT INTO operations (number, at, actor, verb, kind, name, generation, revision, state)
  SELECT a.rev, a.at, a.actor, a.verb, c.kind, c.name, 0, a.rev, 'succeeded'
  FROM audit a JOIN changes c ON c.rev = a.rev;
INSERT INTO counters (name, last) SELECT 'operations', rev FROM cluster;
DROP TABLE audit;
-- What happened to an object.
CREATE TABLE events (
  id BIGINT PRIMARY KEY,
  at BIGINT NOT NULL,
  kind TEXT NOT NULL,
  name TEXT NOT NULL,
  deployment BIGINT,
  type TEXT NOT NULL,
  reason TEXT NOT NULL,
  message TEXT NOT NULL
);
CREATE INDEX events_object ON events (kind, name, id);
CREATE INDEX events_at ON events (at);
-- The steps of a deployment, and what its instances wrote until it was live.
CREATE TABLE deployment_logs (
  app TEXT NOT NULL,
  number BIGINT NOT NULL,
  last_seq BIGINT NOT NULL,
  -- Of the texts that are kept.
  bytes BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  PRIMARY KEY (app, number)
);
CREATE TABLE deployment_log_lines (
  app TEXT NOT NULL,
  number BIGINT NOT NULL,
  seq BIGINT NOT NULL,
  at BIGINT NOT NULL,
  -- `step`, `log` or `end`.
  type TEXT NOT NULL,
  data TEXT NOT NULL,
  PRIMARY KEY (app, number, seq)
);
-- How many lines of each container are noted: after a restart it is read from there on.
CREATE TABLE deployment_log_sources (
  app TEXT NOT NULL,
  number BIGINT NOT NULL,
  container TEXT NOT NULL,
  lines BIGINT NOT NULL,
  PRIMARY KEY (app, number, container)
);
-- What was answered to a request that may be sent again.
CREATE TABLE idempotency (
  actor TEXT NOT NULL,
  key TEXT NOT NULL,
  fingerprint TEXT NOT NULL,
  at BIGINT NOT NULL,
  -- Set in the transaction that did what was asked for.
  operation BIGINT,
  -- Null until it is answered.
  status BIGINT,
  headers TEXT,
  body TEXT,
  PRIMARY KEY (actor, key)
);
CREATE INDEX idempotency_at ON idempotency (at);
