CREATE VIEW clicking AS SELECT tumble(INTERVAL '1 second') AS window, k, count(*) AS c FROM clicks GROUP BY window, k;
CREATE VIEW ordering AS SELECT tumble(INTERVAL '1 second') AS window, k, max(v) AS m FROM orders GROUP BY window, k;
CREATE TABLE joined (w TIMESTAMP, k TEXT, c BIGINT, m BIGINT) WITH (connector = 'blackhole');
INSERT INTO joined
SELECT a.window['start'], a.k, a.c, b.m FROM clicking AS a JOIN ordering AS b ON a.window = b.window AND a.k = b.k;
CREATE TABLE joined_full (w TIMESTAMP, w2 TIMESTAMP, k TEXT, k2 TEXT, c BIGINT, m BIGINT) WITH (connector = 'blackhole');
INSERT INTO joined_full
SELECT a.window['start'], b.window['start'], a.k, b.k, a.c, b.m
FROM clicking AS a FULL JOIN ordering AS b ON a.window = b.window AND a.k = b.k;
