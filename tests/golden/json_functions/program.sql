-- Paths into JSON text.
CREATE TABLE events (
    id BIGINT, body TEXT
) WITH (connector = 'kafka', bootstrap_servers = 'embedded', topic = 'events');
SELECT id, json_get_str(body, 'user', 'name') AS name, json_get_int(body, 'counts', 0) AS first_count,
       json_length(body, 'counts') AS counts, json_contains(body, 'user') AS has_user
FROM events;
