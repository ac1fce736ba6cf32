-- UNNEST after FROM in a window.
CREATE TABLE events (n BIGINT, ts TIMESTAMP, k TEXT, v BIGINT, tags TEXT[], WATERMARK FOR ts AS ts - INTERVAL '10 seconds')
    WITH (connector = 'file', path = 'events.jsonl');
SELECT tumble(INTERVAL '30 seconds') AS window, tag, count(*) AS c, max(v) AS v FROM events, UNNEST(tags) AS u(tag) WHERE v <> 0 GROUP BY window, tag;
