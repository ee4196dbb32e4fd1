-- Which failover policy steers a host name.
CREATE TABLE failover_hostnames (
  hostname TEXT PRIMARY KEY,
  policy TEXT NOT NULL
);
CREATE INDEX failover_hostnames_policy ON failover_hostnames (policy);
-- Who answers for zones that are hosted elsewhere, with all that is written of them sealed here.
CREATE TABLE providers (
  name TEXT PRIMARY KEY,
  key_id TEXT NOT NULL,
  sealed TEXT NOT NULL
);
CREATE INDEX providers_key ON providers (key_id);
-- By which of them a policy is carried out, if by any.
CREATE TABLE failover_providers (
  policy TEXT PRIMARY KEY,
  provider TEXT NOT NULL
);
CREATE INDEX failover_providers_provider ON failover_providers (provider);
-- What is to be done because an incident was opened.
CREATE TABLE failover_actions (
  incident TEXT NOT NULL,
  -- When it was opened, or opened again.
  at BIGINT NOT NULL,
  -- The order in which they are written.
  place BIGINT NOT NULL,
  policy TEXT NOT NULL,
  -- JSON, as it is written.
  action TEXT NOT NULL,
  PRIMARY KEY (incident, at, place)
);
-- How far a policy's controller is.
CREATE TABLE failover_states (
  policy TEXT PRIMARY KEY,
  -- JSON: all that it knows, and what is served by it.
  state TEXT NOT NULL,
  steering TEXT NOT NULL,
  saved_at BIGINT NOT NULL
);
