-- What failovers were decided from and how they went, so that they can be told and lived through
-- again.
CREATE TABLE failover_incidents (
  policy TEXT NOT NULL,
  -- Milliseconds since the Unix epoch.
  opened_at BIGINT NOT NULL,
  -- NULL while it goes on.
  closed_at BIGINT,
  -- JSON.
  incident TEXT NOT NULL,
  PRIMARY KEY (policy, opened_at)
);
