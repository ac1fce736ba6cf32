-- Local item suggestion: who sells in Oregon, Idaho or California, in category 10?
-- A join without windows: it runs on an input that ends.
CREATE TABLE q3 (name TEXT, city TEXT, state TEXT, id BIGINT) WITH (connector = '${NEXMARK_SINK:-stdout}');

INSERT INTO q3
SELECT p.name, p.city, p.state, a.id
FROM auction AS a JOIN person AS p ON a.seller = p.id
WHERE a.category = 10 AND (p.state = 'OR' OR p.state = 'ID' OR p.state = 'CA');
