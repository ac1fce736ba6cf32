-- Fills topic person; a record of Kafka a row, without transactions, so that both engines read the same plain topic.
CREATE TABLE made (
    id BIGINT, name TEXT, email_address TEXT, credit_card TEXT, city TEXT, state TEXT, date_time TIMESTAMP(3), extra TEXT
) WITH (connector = 'nexmark', events_of = 'person', events = '${EVENTS}', event_rate = 'max');

CREATE TABLE topic (
    id BIGINT, name TEXT, email_address TEXT, credit_card TEXT, city TEXT, state TEXT, date_time TIMESTAMP(3), extra TEXT
) WITH (connector = 'kafka', bootstrap_servers = '${BROKER}', topic = 'person', delivery = 'at_least_once');

INSERT INTO topic SELECT id, name, email_address, credit_card, city, state, date_time, extra FROM made;
