-- UNNEST after FROM: each row with each of its tags, none for an empty list or none.
CREATE TABLE events (n BIGINT, ts TIMESTAMP, k TEXT, v BIGINT, tags TEXT[], WATERMARK FOR ts AS ts - INTERVAL '10 seconds')
    WITH (connector = 'file', path = 'events.jsonl');
SELECT e.n AS n, u.tag AS tag FROM events AS e CROSS JOIN UNNEST(e.tags) AS u(tag);
