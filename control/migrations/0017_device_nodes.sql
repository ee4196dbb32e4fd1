-- The node of a tailnet that a device was enrolled by, and the only one by which it comes.
ALTER TABLE devices ADD COLUMN node TEXT;
