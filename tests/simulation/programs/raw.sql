CREATE TABLE raw (n BIGINT, k TEXT, v BIGINT) WITH (connector = 'blackhole');
INSERT INTO raw SELECT n, k, v * 2 FROM clicks WHERE v > -30;
