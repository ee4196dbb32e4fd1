-- How far each deployment is. Those of before were rolled out by what was seen: the newest of an
-- app was to be live.
ALTER TABLE deployments ADD COLUMN state TEXT NOT NULL DEFAULT 'superseded';
ALTER TABLE deployments ADD COLUMN step BIGINT NOT NULL DEFAULT 0;
-- Since when it is in this state and step.
ALTER TABLE deployments ADD COLUMN since BIGINT NOT NULL DEFAULT 0;
ALTER TABLE deployments ADD COLUMN cause TEXT NOT NULL DEFAULT 'apply';
-- Why it is not live, or not for long.
ALTER TABLE deployments ADD COLUMN ending TEXT;
-- Until when its instances are kept for a rollback.
ALTER TABLE deployments ADD COLUMN kept_until BIGINT;
UPDATE deployments SET since = created_at;
UPDATE deployments SET state = 'live'
  WHERE number = (SELECT MAX(other.number) FROM deployments AS other
    WHERE other.app = deployments.app);
