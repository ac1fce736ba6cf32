CREATE TABLE both (w TIMESTAMP, k TEXT, c BIGINT) WITH (connector = 'blackhole');
INSERT INTO both
SELECT window['start'], k, c
FROM (SELECT tumble(INTERVAL '500 milliseconds') AS window, k, count(*) AS c
      FROM (SELECT k, ts FROM clicks UNION ALL SELECT k, ts FROM orders) GROUP BY window, k);
