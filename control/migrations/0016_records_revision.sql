-- The revision that changed a zone's records last, so that a change of many can ask for them to be
-- as they were read.
ALTER TABLE zones ADD COLUMN records_revision BIGINT NOT NULL DEFAULT 0;
