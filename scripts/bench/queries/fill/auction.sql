-- Fills topic auction; a record of Kafka a row, without transactions, so that both engines read the same plain topic.
CREATE TABLE made (
    id BIGINT, item_name TEXT, description TEXT, initial_bid BIGINT, reserve BIGINT, date_time TIMESTAMP(3),
    expires TIMESTAMP(3), seller BIGINT, category BIGINT, extra TEXT
) WITH (connector = 'nexmark', events_of = 'auction', events = '${EVENTS}', event_rate = 'max');

CREATE TABLE topic (
    id BIGINT, item_name TEXT, description TEXT, initial_bid BIGINT, reserve BIGINT, date_time TIMESTAMP(3),
    expires TIMESTAMP(3), seller BIGINT, category BIGINT, extra TEXT
) WITH (connector = 'kafka', bootstrap_servers = '${BROKER}', topic = 'auction', delivery = 'at_least_once');

INSERT INTO topic SELECT id, item_name, description, initial_bid, reserve, date_time, expires, seller, category, extra FROM made;
