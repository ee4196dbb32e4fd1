-- Which apps name which shards: one that is named is not deleted.
CREATE TABLE app_shards (
  app TEXT NOT NULL,
  shard TEXT NOT NULL,
  PRIMARY KEY (app, shard)
);
CREATE INDEX app_shards_shard ON app_shards (shard);
