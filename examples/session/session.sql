-- Visits: clicks of a visitor with less than 30 seconds between them.
CREATE TABLE clicks (
    visitor TEXT, page TEXT, ts TIMESTAMP,
    WATERMARK FOR ts AS ts - INTERVAL '1 minute'
) WITH (connector = 'file', path = 'examples/session/input/clicks.jsonl');

SELECT session(INTERVAL '30 seconds') AS window, visitor, count(*) AS pages
FROM clicks
GROUP BY window, visitor;
