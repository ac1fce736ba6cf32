//! People: they register, sell and bid.

use std::io::Write;

use super::super::dice::Roll;
use super::super::sequence::{Event, FIRST_ID};
use super::super::text;
use super::{Field, House, Value, date_time};

const FIRST_NAMES: [&str; 11] =
    ["Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter"];
const LAST_NAMES: [&str; 9] = ["Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris"];
const CITIES: [&str; 10] =
    ["Phoenix", "Los Angeles", "San Francisco", "Boise", "Portland", "Bend", "Redmond", "Seattle", "Kent", "Cheyenne"];
const STATES: [&str; 6] = ["AZ", "CA", "ID", "OR", "WA", "WY"];

/// People who will register soon may be named already.
const LEAD: u64 = 10;

/// One in so many people is hot.
const HOT: u64 = 100;

pub(super) const FIELDS: &[Field] = &[
    Field { name: "id", value: Value::Number(|_, event| (FIRST_ID + event.newest_person) as i64) },
    Field { name: "name", value: Value::Text(name) },
    Field { name: "email_address", value: Value::Text(email_address) },
    Field { name: "credit_card", value: Value::Text(credit_card) },
    Field { name: "city", value: Value::Text(city) },
    Field { name: "state", value: Value::Text(state) },
    Field { name: "date_time", value: Value::Time(date_time) },
    Field { name: "extra", value: Value::Text(extra) },
];

/// The id of one of the people who take part, or will soon.
pub(super) fn anybody(house: &House, event: &Event, roll: Roll) -> u64 {
    let people = event.newest_person + 1;
    let active = people.min(house.active_people);
    FIRST_ID + people - active + event.dice.below(roll, active + LEAD)
}

/// The id of the person who is hot now, or `place` behind.
pub(super) fn hot(event: &Event, place: u64) -> u64 {
    FIRST_ID + event.newest_person / HOT * HOT + place
}

fn one_of(event: &Event, roll: Roll, words: &[&str], out: &mut Vec<u8>) {
    let place = event.dice.below(roll, words.len() as u64) as usize;
    out.extend_from_slice(words[place].as_bytes());
}

fn name(_: &House, event: &Event, out: &mut Vec<u8>) {
    one_of(event, Roll::FirstName, &FIRST_NAMES, out);
    out.push(b' ');
    one_of(event, Roll::LastName, &LAST_NAMES, out);
}

fn email_address(_: &House, event: &Event, out: &mut Vec<u8>) {
    text::word(&mut event.dice.stream(Roll::Mailbox), 7, b' ', out);
    out.push(b'@');
    text::word(&mut event.dice.stream(Roll::MailHost), 5, b' ', out);
    out.extend_from_slice(b".com");
}

fn credit_card(_: &House, event: &Event, out: &mut Vec<u8>) {
    let mut stream = event.dice.stream(Roll::CreditCard);
    let [a, b, c, d] = std::array::from_fn(|_| stream.below(10_000));
    // Writing to a vector cannot fail.
    let _ = write!(out, "{a:04} {b:04} {c:04} {d:04}");
}

fn city(_: &House, event: &Event, out: &mut Vec<u8>) {
    one_of(event, Roll::City, &CITIES, out);
}

fn state(_: &House, event: &Event, out: &mut Vec<u8>) {
    one_of(event, Roll::State, &STATES, out);
}

fn extra(house: &House, event: &Event, out: &mut Vec<u8>) {
    let size = 8 + super::size(house, event, &[name, email_address, credit_card, city, state], out);
    house.pad(event, size, out);
}
