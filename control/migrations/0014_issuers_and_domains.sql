-- Authorities are objects like the others; beside them is only the key of an external account.
INSERT INTO objects (kind, name, generation, revision, spec, created_at, updated_at)
  SELECT 'Issuer', name, 1, (SELECT rev FROM cluster), spec, created_at, updated_at FROM issuers;
CREATE TABLE issuer_keys (
  issuer TEXT PRIMARY KEY,
  key_id TEXT NOT NULL,
  sealed TEXT NOT NULL
);
CREATE INDEX issuer_keys_key ON issuer_keys (key_id);
INSERT INTO issuer_keys (issuer, key_id, sealed)
  SELECT name, key_id, sealed FROM issuers WHERE key_id IS NOT NULL;
DROP TABLE issuers;
-- Whether new domains are served only once their owner has proven that they are meant.
ALTER TABLE cluster ADD COLUMN verify_domains BIGINT NOT NULL DEFAULT 0;
-- Those that have yet to be.
CREATE TABLE unverified_domains (
  app TEXT NOT NULL,
  domain TEXT NOT NULL,
  PRIMARY KEY (app, domain)
);
