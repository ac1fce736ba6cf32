CREATE TABLE totals (k TEXT, c BIGINT, s BIGINT, PRIMARY KEY (k))
WITH (connector = 'redis', url = 'embedded', key = 'totals:{k}');
INSERT INTO totals SELECT k, count(*), sum(v) FROM clicks GROUP BY k;
