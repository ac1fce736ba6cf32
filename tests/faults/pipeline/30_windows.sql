-- Totals of windows, to a place that adds and to two that replace.
CREATE VIEW overlapping AS
SELECT hop(INTERVAL '5 seconds', INTERVAL '10 seconds') AS window, kind, count(*) AS n, sum(amount) AS total,
       min(amount) AS lowest, max(amount) AS highest
FROM events GROUP BY window, kind;

CREATE VIEW tens AS
SELECT tumble(INTERVAL '10 seconds') AS window, kind, count(*) AS n, sum(amount) AS total,
       min(amount) AS lowest, max(amount) AS highest
FROM events GROUP BY window, kind;

CREATE VIEW fives AS
SELECT tumble(INTERVAL '5 seconds') AS window, kind, count(*) AS n, sum(amount) AS total,
       min(amount) AS lowest, max(amount) AS highest
FROM events GROUP BY window, kind;

CREATE TABLE totals (start TIMESTAMP, kind TEXT, n BIGINT, total BIGINT, lowest BIGINT, highest BIGINT)
WITH (connector = 'sqlite', path = '${PLACE}/totals.sqlite', create = 'true');

INSERT INTO totals
SELECT window['start'], kind, n, total, lowest, highest FROM fives;

CREATE TABLE newest (
    start TIMESTAMP, kind TEXT, n BIGINT, total BIGINT, lowest BIGINT, highest BIGINT,
    PRIMARY KEY (start, kind)
) WITH (connector = 'postgres', url = '${POSTGRES}', table = '${TRIAL}.windows', create = 'true', timeout = '5 seconds');

INSERT INTO newest
SELECT window['start'], kind, n, total, lowest, highest FROM tens;

CREATE TABLE metrics (
    start TIMESTAMP, kind TEXT, n BIGINT, total BIGINT, lowest BIGINT, highest BIGINT,
    PRIMARY KEY (start, kind)
) WITH (connector = 'redis', url = '${REDIS}', key = '${TRIAL}:{kind}:{start}', emit_early = '300 ms');

INSERT INTO metrics
SELECT window['start'], kind, n, total, lowest, highest FROM overlapping;
