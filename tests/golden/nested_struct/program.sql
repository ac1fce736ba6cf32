-- Fields of fields, a list's elements and a struct as a whole.
CREATE TABLE events (
    id BIGINT, who STRUCT<name TEXT, home STRUCT<city TEXT, zip INT>>, tags TEXT[]
) WITH (connector = 'kafka', bootstrap_servers = 'embedded', topic = 'events');
SELECT id, who['name'] AS name, who['home']['city'] AS city, who['home'] AS home, tags[1] AS first_tag, array_length(tags) AS tags FROM events;
