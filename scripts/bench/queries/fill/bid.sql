-- Fills topic bid; a record of Kafka a row, without transactions, so that both engines read the same plain topic.
CREATE TABLE made (
    auction BIGINT, bidder BIGINT, price BIGINT, channel TEXT, url TEXT, date_time TIMESTAMP(3), extra TEXT
) WITH (connector = 'nexmark', events_of = 'bid', events = '${EVENTS}', event_rate = 'max');

CREATE TABLE topic (
    auction BIGINT, bidder BIGINT, price BIGINT, channel TEXT, url TEXT, date_time TIMESTAMP(3), extra TEXT
) WITH (connector = 'kafka', bootstrap_servers = '${BROKER}', topic = 'bid', delivery = 'at_least_once');

INSERT INTO topic SELECT auction, bidder, price, channel, url, date_time, extra FROM made;
