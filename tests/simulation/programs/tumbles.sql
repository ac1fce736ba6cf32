CREATE TABLE tumbles (w TIMESTAMP, k TEXT, c BIGINT, s BIGINT, low BIGINT, d BIGINT) WITH (connector = 'blackhole');
INSERT INTO tumbles
SELECT window['start'], k, c, s, low, d
FROM (SELECT tumble(INTERVAL '1 second') AS window, k, count(*) AS c, sum(v) AS s, min(v) AS low, count(DISTINCT g) AS d
      FROM clicks GROUP BY window, k);
