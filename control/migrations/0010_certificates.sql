-- Certificates that were ordered or uploaded. Their keys are sealed with a key that is not here.
CREATE TABLE certificates (
  -- The first of its names.
  name TEXT PRIMARY KEY,
  -- 'acme' or 'upload'.
  source TEXT NOT NULL,
  -- Of the authority's account; NULL for what was uploaded.
  issuer TEXT,
  chain TEXT NOT NULL,
  key_id TEXT NOT NULL,
  sealed TEXT NOT NULL,
  -- In seconds since the Unix epoch.
  renew_at BIGINT,
  updated_at BIGINT NOT NULL
);
CREATE INDEX certificates_key ON certificates (key_id);
-- Authorities. The key of an external account is apart, because it is never shown.
CREATE TABLE issuers (
  name TEXT PRIMARY KEY,
  spec TEXT NOT NULL,
  key_id TEXT,
  sealed TEXT,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL
);
-- As whom each authority knows this Weir. The key is here before the authority hears of it, so that
-- it never knows two.
CREATE TABLE acme_accounts (
  issuer TEXT PRIMARY KEY,
  directory TEXT NOT NULL,
  url TEXT,
  key_id TEXT NOT NULL,
  sealed TEXT NOT NULL
);
-- Orders under way: the certificate's key is here before the order is made, and the order's URL
-- before the authority is asked on.
CREATE TABLE acme_orders (
  name TEXT PRIMARY KEY,
  issuer TEXT NOT NULL,
  names TEXT NOT NULL,
  url TEXT,
  key_id TEXT NOT NULL,
  sealed TEXT NOT NULL,
  created_at BIGINT NOT NULL
);
-- Tries that failed since the last one that did not.
CREATE TABLE acme_failures (
  name TEXT PRIMARY KEY,
  failures BIGINT NOT NULL,
  -- In seconds since the Unix epoch.
  next_at BIGINT NOT NULL,
  message TEXT NOT NULL,
  -- 1 if it is the authority's limit.
  is_limited BIGINT NOT NULL
);
