-- Devices: who may become one, and who is one.
CREATE TABLE device_invites (
  -- Of the secret, which is nowhere.
  hash TEXT PRIMARY KEY,
  -- The name that the device is to have; NULL for its own.
  name TEXT,
  -- JSON: an object of text.
  labels TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  -- The fingerprint of the key that it was traded for; NULL until it was.
  claimed_by TEXT
);
CREATE TABLE devices (
  name TEXT PRIMARY KEY,
  -- Of its key: SHA-256 of the public key info.
  fingerprint TEXT NOT NULL UNIQUE,
  -- What it said of itself last (JSON).
  about TEXT NOT NULL,
  enrolled_at BIGINT NOT NULL,
  seen_at BIGINT NOT NULL,
  revoked_at BIGINT
);
