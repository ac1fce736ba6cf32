CREATE TABLE hops (w TIMESTAMP, k TEXT, c BIGINT, s BIGINT, low BIGINT) WITH (connector = 'blackhole');
INSERT INTO hops
SELECT window['start'], k, c, s, low
FROM (SELECT hop(INTERVAL '500 milliseconds', INTERVAL '2 seconds') AS window, k, count(*) AS c, sum(v) AS s,
             min(v) AS low
      FROM clicks GROUP BY window, k);
