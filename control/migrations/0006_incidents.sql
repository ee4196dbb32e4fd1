-- What goes wrong, from when it was seen until it was gone.
CREATE TABLE incidents (
  id TEXT PRIMARY KEY,
  -- The rule and the object that it is about.
  rule TEXT NOT NULL,
  subject TEXT NOT NULL,
  severity TEXT NOT NULL,
  title TEXT NOT NULL,
  detail TEXT NOT NULL,
  state TEXT NOT NULL,
  -- How often it was opened.
  occurrences BIGINT NOT NULL,
  opened_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  resolved_at BIGINT,
  acknowledged_by TEXT,
  acknowledged_at BIGINT,
  -- Of its last event.
  last_event BIGINT NOT NULL
);
CREATE UNIQUE INDEX incidents_open ON incidents (rule, subject) WHERE state = 'open';
CREATE INDEX incidents_opened ON incidents (opened_at, id);
-- Only added to, until the incident is forgotten.
CREATE TABLE incident_events (
  incident TEXT NOT NULL,
  number BIGINT NOT NULL,
  at BIGINT NOT NULL,
  actor TEXT NOT NULL,
  action TEXT NOT NULL,
  detail TEXT NOT NULL,
  PRIMARY KEY (incident, number)
);
-- Messages on their way to those who are to be told.
CREATE TABLE outbox (
  id TEXT PRIMARY KEY,
  notifier TEXT NOT NULL,
  body TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  due_at BIGINT NOT NULL,
  attempts BIGINT NOT NULL,
  last_error TEXT
);
CREATE INDEX outbox_due ON outbox (due_at);
CREATE INDEX outbox_notifier ON outbox (notifier, created_at);
-- Who is told. The secret is apart, because it is never shown.
CREATE TABLE notifiers (
  name TEXT PRIMARY KEY,
  spec TEXT NOT NULL,
  secret TEXT,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL
);
