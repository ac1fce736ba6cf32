CREATE TABLE sessions (first TIMESTAMP, until TIMESTAMP, k TEXT, c BIGINT, s BIGINT) WITH (connector = 'blackhole');
INSERT INTO sessions
SELECT window['start'], window['end'], k, c, s
FROM (SELECT session(INTERVAL '400 milliseconds') AS window, k, count(*) AS c, sum(v) AS s FROM clicks GROUP BY window, k);
