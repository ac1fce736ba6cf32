-- Groups, HAVING and an order over an input that ends.
CREATE TABLE events (k TEXT, v BIGINT) WITH (connector = 'file', path = 'events.jsonl');
SELECT k, sum(v) AS total FROM events GROUP BY k HAVING count(*) > 1;
