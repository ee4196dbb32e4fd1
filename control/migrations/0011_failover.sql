-- Which failover policy steers a host name.
CREATE TABLE failover_hostnames (
  hostname TEXT PRIMARY KEY,
  policy TEXT NOT NULL
);
CREATE INDEX failover_hostnames_policy ON failover_hostnames (policy);
-- How far a policy's controller is.
CREATE TABLE failover_states (
  policy TEXT PRIMARY KEY,
  -- JSON: all that it knows, and what is served by it.
  state TEXT NOT NULL,
  steering TEXT NOT NULL,
  saved_at BIGINT NOT NULL
);
