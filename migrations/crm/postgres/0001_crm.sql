-- What the shop's people know of their customers. A table that is already there is kept as it is. Times are UTC.
CREATE TABLE IF NOT EXISTS interaction (
    interaction_id   BIGSERIAL PRIMARY KEY,
    customer_id      BIGINT NOT NULL,
    interaction_type VARCHAR(50) NOT NULL,
    channel          VARCHAR(50),
    interaction_date TIMESTAMP NOT NULL,
    status           VARCHAR(50)
);
CREATE INDEX IF NOT EXISTS interaction_interaction_date ON interaction (interaction_date);
CREATE INDEX IF NOT EXISTS interaction_customer_id ON interaction (customer_id);

CREATE TABLE IF NOT EXISTS segment (
    segment_id   BIGSERIAL PRIMARY KEY,
    segment_name VARCHAR(100) NOT NULL,
    criteria     TEXT
);

CREATE TABLE IF NOT EXISTS customersegment (
    customer_segment_id BIGSERIAL PRIMARY KEY,
    customer_id         BIGINT NOT NULL,
    segment_id          BIGINT NOT NULL REFERENCES segment (segment_id)
);
CREATE INDEX IF NOT EXISTS customersegment_customer_id ON customersegment (customer_id);
CREATE INDEX IF NOT EXISTS customersegment_segment_id ON customersegment (segment_id);
