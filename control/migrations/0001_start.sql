-- Portable between SQLite and PostgreSQL: TEXT and BIGINT, no triggers, no now(); times are
-- milliseconds since the Unix epoch.
CREATE TABLE cluster (
  one BIGINT PRIMARY KEY CHECK (one = 1),
  cluster_id TEXT NOT NULL,
  base_domain TEXT NOT NULL,
  -- Every durable write takes the next one: the global order of commits.
  rev BIGINT NOT NULL
);
CREATE TABLE objects (
  kind TEXT NOT NULL,
  name TEXT NOT NULL,
  generation BIGINT NOT NULL,
  revision BIGINT NOT NULL,
  spec TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  PRIMARY KEY (kind, name)
);
CREATE TABLE deployments (
  app TEXT NOT NULL,
  number BIGINT NOT NULL,
  template TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  PRIMARY KEY (app, number)
);
-- Outlives the app, so that a number, and with it a container's name, never means two things.
CREATE TABLE deployment_numbers (
  app TEXT PRIMARY KEY,
  last BIGINT NOT NULL
);
-- The uniqueness that must never be wrong.
CREATE TABLE hostnames (
  hostname TEXT PRIMARY KEY,
  app TEXT NOT NULL
);
CREATE INDEX hostnames_app ON hostnames (app);
-- Keys only: a reader looks the row up again.
CREATE TABLE changes (
  rev BIGINT PRIMARY KEY,
  kind TEXT NOT NULL,
  name TEXT NOT NULL,
  at BIGINT NOT NULL
);
CREATE TABLE tokens (
  id TEXT PRIMARY KEY,
  hash TEXT NOT NULL UNIQUE,
  created_at BIGINT NOT NULL
);
CREATE TABLE audit (
  rev BIGINT PRIMARY KEY,
  at BIGINT NOT NULL,
  actor TEXT NOT NULL,
  verb TEXT NOT NULL,
  object TEXT NOT NULL
);
