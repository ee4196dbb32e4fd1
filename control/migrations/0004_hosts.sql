-- The machine that Weir runs on is a host from the first start.
INSERT INTO objects (kind, name, generation, revision, spec, created_at, updated_at)
VALUES ('Host', 'local', 1, 0, '{}', 0, 0);
