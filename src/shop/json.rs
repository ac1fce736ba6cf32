//! Events as JSON, written straight into a buffer: a benchmark's generator must be faster than what it feeds. The parts
//! of it are also what databases keep as JSON.

use chrono::{DateTime, Datelike, Timelike};

use super::catalogue::Catalogue;
use super::events::{Behaviour, Cart, Event, Interaction, Search, Transaction};

/// What `source` says.
const SOURCE: &str = "instashop";
/// What `source` says of an interaction.
const CRM: &str = "crm";

/// Appends the event as one JSON object. A session's id is its number behind `sessions`.
pub(super) fn write(catalogue: &Catalogue, sessions: &str, event: &Event, event_time: i64, out: &mut Vec<u8>) {
    text("{\"event_type\":", event.event_type(), out);
    out.extend_from_slice(b",\"timestamp\":\"");
    timestamp(event_time, out);
    out.push(b'"');
    match event {
        Event::Transaction(transaction) => write_transaction(catalogue, transaction, out),
        Event::Behaviour(behaviour) => write_behaviour(catalogue, sessions, behaviour, out),
        Event::Interaction(interaction) => write_interaction(catalogue, interaction, out),
        Event::Search(search) => write_search(catalogue, sessions, search, out),
        Event::Cart(cart) => write_cart(catalogue, sessions, cart, out),
    }
    out.push(b'}');
}

fn write_transaction(catalogue: &Catalogue, transaction: &Transaction, out: &mut Vec<u8>) {
    let customer = &catalogue.customers[transaction.customer];
    let buyer = &catalogue.buyers[transaction.buyer];
    number(",\"transaction_id\":", transaction.id, out);
    number(",\"customer_id\":", customer.id, out);
    text(",\"customer_name\":", &customer.name, out);
    text(",\"subscription_plan\":", &customer.plan, out);
    number(",\"buyer_id\":", buyer.id, out);
    text(",\"buyer_name\":", &buyer.name, out);
    text(",\"buyer_email\":", &buyer.email, out);
    money(",\"total_amount\":", transaction.total(), out);
    text(",\"payment_method\":", transaction.payment_method, out);
    text(",\"status\":", transaction.status, out);
    out.extend_from_slice(b",\"items\":[");
    for (place, item) in transaction.items.iter().enumerate() {
        let product = &catalogue.products[item.product];
        number(if place == 0 { "{\"product_id\":" } else { ",{\"product_id\":" }, product.id, out);
        text(",\"product_name\":", &product.name, out);
        text(",\"category\":", product.category, out);
        number(",\"quantity\":", item.quantity, out);
        money(",\"unit_price\":", item.unit_price, out);
        money(",\"product_price\":", product.price, out);
        out.push(b'}');
    }
    text("],\"source\":", SOURCE, out);
}

fn write_behaviour(catalogue: &Catalogue, sessions: &str, behaviour: &Behaviour, out: &mut Vec<u8>) {
    shop(catalogue, behaviour.customer, out);
    text(",\"interaction_type\":", behaviour.interaction_type, out);
    text(",\"channel\":", behaviour.channel, out);
    text(",\"status\":", behaviour.status, out);
    session(sessions, behaviour.session, out);
    match behaviour.product {
        Some(product) => number(",\"product_id\":", catalogue.products[product].id, out),
        None => out.extend_from_slice(b",\"product_id\":null"),
    }
    text(",\"source\":", SOURCE, out);
}

/// The CRM knows customers by their ids alone, and no sessions.
fn write_interaction(catalogue: &Catalogue, interaction: &Interaction, out: &mut Vec<u8>) {
    number(",\"customer_id\":", catalogue.customers[interaction.customer].id, out);
    text(",\"customer_name\":null,\"interaction_type\":", interaction.interaction_type, out);
    text(",\"channel\":", interaction.channel, out);
    text(",\"status\":", interaction.status, out);
    text(",\"session_id\":null,\"product_id\":null,\"source\":", CRM, out);
}

fn write_search(catalogue: &Catalogue, sessions: &str, search: &Search, out: &mut Vec<u8>) {
    shop(catalogue, search.customer, out);
    session(sessions, search.session, out);
    text(",\"search_query\":", search.query(catalogue), out);
    number(",\"results_count\":", search.results, out);
}

fn write_cart(catalogue: &Catalogue, sessions: &str, cart: &Cart, out: &mut Vec<u8>) {
    shop(catalogue, cart.customer, out);
    session(sessions, cart.session, out);
    money(",\"cart_total\":", cart.total, out);
}

fn shop(catalogue: &Catalogue, customer: usize, out: &mut Vec<u8>) {
    let customer = &catalogue.customers[customer];
    number(",\"customer_id\":", customer.id, out);
    text(",\"customer_name\":", &customer.name, out);
}

fn session(sessions: &str, session: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"session_id\":\"");
    number(sessions, session, out);
    out.push(b'"');
}

/// Appends `key` as it is and `value` as a JSON string.
pub(crate) fn text(key: &str, value: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(key.as_bytes());
    out.push(b'"');
    if value.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
        out.extend_from_slice(value.as_bytes());
    } else {
        // Names that a database already had may be anything.
        for byte in value.bytes() {
            match byte {
                b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
                0..b' ' => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
                _ => out.push(byte),
            }
        }
    }
    out.push(b'"');
}

/// Appends `key` as it is and `value` in digits.
pub(crate) fn number(key: &str, mut value: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(key.as_bytes());
    let mut buffer = [0; 20];
    let mut start = buffer.len();
    loop {
        start -= 1;
        buffer[start] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&buffer[start..]);
}

/// Appends `key` as it is and an amount with two digits behind the point.
pub(crate) fn money(key: &str, cents: u64, out: &mut Vec<u8>) {
    number(key, cents / 100, out);
    out.push(b'.');
    padded((cents % 100) as u32, 2, out);
}

fn padded(mut value: u32, width: usize, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + width, b'0');
    for place in (start..start + width).rev() {
        out[place] = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// ISO 8601 in UTC with milliseconds.
fn timestamp(millis: i64, out: &mut Vec<u8>) {
    let time = DateTime::from_timestamp_millis(millis).unwrap_or_default();
    for (value, width, after) in [
        (time.year().unsigned_abs(), 4, b'-'),
        (time.month(), 2, b'-'),
        (time.day(), 2, b'T'),
        (time.hour(), 2, b':'),
        (time.minute(), 2, b':'),
        (time.second(), 2, b'.'),
        (time.timestamp_subsec_millis(), 3, b'Z'),
    ] {
        padded(value, width, out);
        out.push(after);
    }
}
