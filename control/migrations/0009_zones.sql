-- What a zone has beside its spec. Outlives the zone, so that its serial grows when it is made anew.
CREATE TABLE zones (
  zone TEXT PRIMARY KEY,
  -- Which record sets are the zone's; none of one that was deleted.
  content BIGINT,
  -- How many names it has records at.
  names BIGINT NOT NULL,
  -- The serials that may be served without asking again. They never wrap here; what is served is
  -- the remainder by 2^32.
  serial_first BIGINT NOT NULL,
  serial_last BIGINT NOT NULL
);
CREATE TABLE record_sets (
  content BIGINT NOT NULL,
  -- The labels in front of the zone's name, from the right, each with a space behind it: so what is
  -- below a name begins with it.
  path TEXT NOT NULL,
  rtype TEXT NOT NULL,
  -- In seconds; none for that of the zone.
  ttl BIGINT,
  -- A line in presentation form for each record. Empty of a set that was deleted, which is kept
  -- until everybody who follows the changes has seen that.
  data TEXT NOT NULL,
  revision BIGINT NOT NULL,
  PRIMARY KEY (content, path, rtype)
);
CREATE INDEX record_sets_revision ON record_sets (content, revision);
-- Contents that are no zone's: being written, or left. They are removed a little at a time.
CREATE TABLE loose_contents (
  content BIGINT PRIMARY KEY,
  since BIGINT NOT NULL
);
