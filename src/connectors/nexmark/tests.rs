//! The stream against the specification, by counting; and that it is the same however it is read.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Field, Fields, Int64Type, SchemaRef, TimeUnit, TimestampMillisecondType};

use super::*;
use crate::catalog::options::OptionValue;
use crate::catalog::{ColumnDefinition, ColumnKind};
use crate::connectors::made_up::testing::rows;
use crate::connectors::{Boundedness, SourceContext, SourceEvent};
use crate::sql::Location;

const TIME: DataType = DataType::Timestamp(TimeUnit::Millisecond, None);

fn table_of(columns: Vec<(&str, DataType)>) -> TableDefinition {
    let column = |(name, data_type): (&str, DataType)| ColumnDefinition {
        name: name.into(),
        data_type,
        nullable: true,
        kind: ColumnKind::Physical,
        location: Location::default(),
    };
    TableDefinition {
        name: "t".into(),
        location: Location::default(),
        columns: columns.into_iter().map(column).collect(),
        primary_key: vec![],
        watermark: None,
    }
}

/// The columns of a kind's own table.
fn own(kind: Kind) -> Vec<(&'static str, DataType)> {
    let data_type = |value| match value {
        house::Value::Number(_) => DataType::Int64,
        house::Value::Time(_) => TIME,
        house::Value::Text(_) => DataType::Utf8,
    };
    house::fields(kind).iter().map(|field| (field.name, data_type(field.value))).collect()
}

/// The table of all events, a struct for each kind.
fn whole() -> Vec<(&'static str, DataType)> {
    let structs = Kind::ALL.iter().map(|(name, kind)| {
        let fields: Fields =
            own(*kind).into_iter().map(|(name, data_type)| Field::new(name, data_type, true)).collect();
        (*name, DataType::Struct(fields))
    });
    [("event_type", DataType::Int32), ("date_time", TIME)].into_iter().chain(structs).collect()
}

fn options(pairs: &[(&str, &str)]) -> Options {
    let value = |(key, text): &(&str, &str)| OptionValue::new(*key, *text);
    Options::new(Location::default(), pairs.iter().map(value).collect())
}

/// The source of a table with these columns, and its columns.
fn source(columns: Vec<(&str, DataType)>, pairs: &[(&str, &str)]) -> (Arc<dyn SourceFactory>, SchemaRef) {
    let (table, mut options) = (table_of(columns), options(pairs));
    let made = NexmarkConnector.table(&table, &mut options);
    assert_eq!(options.finish("nexmark"), []);
    (made.source().unwrap(), table.physical_schema())
}

/// The first events, all in one batch.
async fn first(columns: Vec<(&str, DataType)>, events: &str, pairs: &[(&str, &str)]) -> RecordBatch {
    let pairs = [&[("events", events), ("event_rate", "max")], pairs].concat();
    let (factory, schema) = source(columns, &pairs);
    rows(&factory, vec![SourceContext::alone(schema, 1_000_000)]).await.1
}

fn numbers<'a>(batch: &'a RecordBatch, name: &str) -> &'a [i64] {
    batch.column_by_name(name).unwrap().as_primitive::<Int64Type>().values()
}

fn times<'a>(batch: &'a RecordBatch, name: &str) -> &'a [i64] {
    batch.column_by_name(name).unwrap().as_primitive::<TimestampMillisecondType>().values()
}

fn texts<'a>(batch: &'a RecordBatch, name: &str) -> impl Iterator<Item = &'a str> {
    batch.column_by_name(name).unwrap().as_string::<i32>().iter().flatten()
}

fn counts<T: Ord>(values: impl Iterator<Item = T>) -> BTreeMap<T, usize> {
    let mut counts = BTreeMap::new();
    values.for_each(|value| *counts.entry(value).or_default() += 1);
    counts
}

/// The share of the values of which it is true.
fn share<T>(values: impl Iterator<Item = T>, is: impl Fn(&T) -> bool) -> f64 {
    let values: Vec<T> = values.collect();
    values.iter().filter(|value| is(value)).count() as f64 / values.len() as f64
}

#[track_caller]
fn assert_near(found: f64, expected: f64, tolerance: f64) {
    assert!((found - expected).abs() <= tolerance, "{found} is not {expected} ± {tolerance}");
}

#[tokio::test]
async fn events_are_the_same_however_they_are_read() {
    for (columns, of) in [(whole(), None), (own(Kind::Auction), Some("auction")), (own(Kind::Bid), Some("bid"))] {
        let mut pairs = vec![("events", "2010"), ("event_rate", "max"), ("out_of_order_group_size", "7")];
        pairs.extend(of.map(|of| ("events_of", of)));
        let (one, schema) = source(columns.clone(), &pairs);
        assert_eq!(one.boundedness(), Boundedness::Bounded);
        let expected = rows(&one, vec![SourceContext::alone(schema.clone(), 8192)]).await;
        assert_eq!(rows(&one, vec![SourceContext::alone(schema.clone(), 7)]).await, expected);
        let (many, _) = source(columns.clone(), &[&pairs[..], &[("splits", "3")]].concat());
        let two = |instance| SourceContext { instance, instances: 2, ..SourceContext::alone(schema.clone(), 64) };
        assert_eq!(rows(&many, vec![two(0), two(1)]).await, expected);
        let (other, _) = source(columns, &[&pairs[..], &[("seed", "2")]].concat());
        let others = rows(&other, vec![SourceContext::alone(schema, 8192)]).await;
        assert!(others.0 == expected.0 && others.1 != expected.1);
    }
}

#[tokio::test]
async fn a_source_goes_on_from_any_position() {
    for (columns, of) in [(whole(), None), (own(Kind::Auction), Some("auction"))] {
        let mut pairs = vec![("events", "500"), ("event_rate", "max"), ("splits", "2")];
        pairs.extend(of.map(|of| ("events_of", of)));
        let (factory, schema) = source(columns, &pairs);
        let (offsets, all) = rows(&factory, vec![SourceContext::alone(schema.clone(), 10)]).await;
        for seen in [0, 1, 7, 30] {
            // Where a run that has seen so many rows stands: behind the newest of each split.
            let position =
                |split: usize| (0..seen).rev().find(|row| row % 2 == split).map_or(0, |row| offsets[row] + 1);
            let positions = (0..2).map(|split| (format!("nexmark[{split}]"), position(split))).collect();
            let rest = SourceContext { positions, ..SourceContext::alone(schema.clone(), 10) };
            let (rest, batch) = rows(&factory, vec![rest]).await;
            assert_eq!(rest, offsets[seen..]);
            assert_eq!(batch, all.slice(seen, all.num_rows() - seen));
        }
    }
}

#[tokio::test]
async fn the_table_of_all_events_has_those_of_each_kind() {
    let all = first(whole(), "1000", &[]).await;
    let types = all.column_by_name("event_type").unwrap().as_primitive::<arrow::datatypes::Int32Type>().values();
    assert_eq!(counts(types.iter().copied()), BTreeMap::from([(0, 20), (1, 60), (2, 920)]));
    assert_eq!(types[..5], [0, 1, 1, 1, 2]);
    for (name, kind) in Kind::ALL {
        let alone = first(own(kind), "1000", &[("events_of", name)]).await;
        let column = all.column_by_name(name).unwrap();
        let there = arrow::compute::is_not_null(column).unwrap();
        let found = arrow::compute::filter(column, &there).unwrap();
        assert_eq!(found.as_struct().columns(), alone.columns());
        let times = arrow::compute::filter(all.column_by_name("date_time").unwrap(), &there).unwrap();
        assert_eq!(&times, alone.column_by_name("date_time").unwrap());
        // Where the event is another one its fields are null too: what takes a field does not look at the struct.
        assert!(column.as_struct().columns().iter().all(|field| field.null_count() == there.false_count()));
    }
}

#[tokio::test]
async fn only_the_columns_asked_for_are_made_and_they_are_the_same() {
    let all = first(own(Kind::Bid), "1000", &[("events_of", "bid")]).await;
    let (factory, _) = source(own(Kind::Bid), &[("events", "1000"), ("event_rate", "max"), ("events_of", "bid")]);
    let projected = all.project(&[6, 2]).unwrap();
    let (_, some) = rows(&factory, vec![SourceContext::alone(projected.schema(), 100)]).await;
    assert_eq!(some, projected);
}

#[tokio::test]
async fn bids_are_as_the_specification_says() {
    let bids = first(own(Kind::Bid), "200000", &[("events_of", "bid")]).await;
    assert_eq!(bids.num_rows(), 200_000 / 50 * 46);
    // The hot auction is the first of a hundred; those that are chosen freely are rarely hot.
    assert_near(share(numbers(&bids, "auction").iter(), |id| **id % 100 == 0), 0.5 + 0.5 / 100.0, 0.01);
    assert_near(share(numbers(&bids, "bidder").iter(), |id| **id % 100 == 1), 0.75 + 0.25 / 100.0, 0.01);
    let newest = |row: usize| (row / 46 + 1) as i64;
    for (row, (auction, bidder)) in numbers(&bids, "auction").iter().zip(numbers(&bids, "bidder")).enumerate() {
        let (people, auctions) = (newest(row), newest(row) * 3);
        assert!((1000..1000 + auctions + 10).contains(auction), "auction {auction} of {auctions}");
        assert!(*auction >= 1000 + auctions - 101 - 100, "auction {auction} of {auctions} is long over");
        assert!((1000..1000 + people + 10).contains(bidder) || *bidder == 1001, "bidder {bidder} of {people}");
    }
    // The logarithm is uniform: a sixth of the prices lies in each power of ten.
    let prices = numbers(&bids, "price");
    assert!(prices.iter().all(|price| (100..=100_000_000).contains(price)));
    for power in 2..8 {
        let found = share(prices.iter(), |price| (10_i64.pow(power)..10_i64.pow(power + 1)).contains(price));
        assert_near(found, 1.0 / 6.0, 0.005);
    }
    let channels = counts(texts(&bids, "channel"));
    for hot in ["Google", "Facebook", "Baidu", "Apple"] {
        assert_near(channels[hot] as f64 / bids.num_rows() as f64, 0.125, 0.005);
    }
    assert!((9_900..=10_004).contains(&channels.len()), "{} channels", channels.len());
    let cold = texts(&bids, "channel").zip(texts(&bids, "url")).filter(|(channel, _)| channel.starts_with("channel-"));
    assert_near(share(cold, |(_, url)| url.contains("&channel_id=")), 0.9, 0.02);
    for (channel, url) in texts(&bids, "channel").zip(texts(&bids, "url")).take(1000) {
        let parts: Vec<&str> = url.split('/').collect();
        let [scheme, empty, host, a, b, c, page] = parts[..] else { panic!("{url}") };
        assert_eq!((scheme, empty, host), ("https:", "", "www.nexmark.com"));
        assert!([a, b, c].iter().all(|part| (3..5).contains(&part.len())), "{url}");
        assert!(page.starts_with("item.htm?query=1"), "{url}");
        if let Some((_, id)) = page.split_once("&channel_id=") {
            let number: i32 = channel.strip_prefix("channel-").unwrap().parse().unwrap();
            assert_eq!(id.parse::<u32>().unwrap(), number.reverse_bits().unsigned_abs());
        }
    }
    let sizes: Vec<usize> = texts(&bids, "extra").map(str::len).collect();
    assert!(sizes.iter().all(|size| (54..82).contains(size)));
    assert_near(sizes.iter().sum::<usize>() as f64 / sizes.len() as f64, 67.5, 0.2);
}

#[tokio::test]
async fn auctions_are_as_the_specification_says() {
    let auctions = first(own(Kind::Auction), "500000", &[("events_of", "auction")]).await;
    let count = auctions.num_rows();
    assert_eq!(count, 30_000);
    assert!(numbers(&auctions, "id").iter().copied().eq(1000..1000 + count as i64));
    assert_near(share(numbers(&auctions, "seller").iter(), |id| **id % 100 == 0), 0.75 + 0.25 / 100.0, 0.01);
    let categories = counts(numbers(&auctions, "category").iter().copied());
    assert!(categories.keys().copied().eq(10..15) && categories.values().all(|n| (5_700..6_300).contains(n)));
    assert!(numbers(&auctions, "reserve").iter().zip(numbers(&auctions, "initial_bid")).all(|(r, i)| r >= &(i + 100)));
    // 100 auctions take 1666 events of 0.1 ms: auctions are open for up to twice as long.
    let lengths: Vec<i64> =
        times(&auctions, "expires").iter().zip(times(&auctions, "date_time")).map(|(end, start)| end - start).collect();
    assert!(lengths.iter().all(|length| (1..=2 * 167).contains(length)));
    assert_near(lengths.iter().sum::<i64>() as f64 / count as f64, 167.0, 3.0);
    assert!(texts(&auctions, "item_name").all(|name| name.len() < 20 && name.trim() == name));
    let sizes = texts(&auctions, "item_name").zip(texts(&auctions, "description")).zip(texts(&auctions, "extra"));
    let sizes: Vec<usize> = sizes.map(|((a, b), c)| 48 + a.len() + b.len() + c.len()).collect();
    assert_near(sizes.iter().sum::<usize>() as f64 / count as f64, 500.0, 1.0);
}

#[tokio::test]
async fn people_are_as_the_specification_says() {
    let people = first(own(Kind::Person), "500000", &[("events_of", "person")]).await;
    let count = people.num_rows();
    assert_eq!(count, 10_000);
    assert!(numbers(&people, "id").iter().copied().eq(1000..1000 + count as i64));
    let evenly = |column: &str, words: usize| {
        let counts = counts(texts(&people, column));
        assert_eq!(counts.len(), words, "{column}");
        let expected = count as f64 / words as f64;
        counts.values().for_each(|found| assert_near(*found as f64, expected, expected.sqrt() * 5.0));
    };
    evenly("name", 11 * 9);
    evenly("city", 10);
    evenly("state", 6);
    for (mail, card) in texts(&people, "email_address").zip(texts(&people, "credit_card")) {
        assert!(mail.contains('@') && mail.ends_with(".com"), "{mail}");
        let groups: Vec<&str> = card.split(' ').collect();
        assert!(groups.len() == 4 && groups.iter().all(|group| group.len() == 4), "{card}");
        assert!(groups.iter().all(|group| group.bytes().all(|digit| digit.is_ascii_digit())), "{card}");
    }
    let columns = ["name", "email_address", "credit_card", "city", "state", "extra"];
    let bytes: usize = columns.iter().map(|column| texts(&people, column).map(str::len).sum::<usize>()).sum();
    assert_near(8.0 + bytes as f64 / count as f64, 200.0, 1.0);
}

#[tokio::test]
async fn settings_change_what_they_say() {
    let pairs = [
        ("events_of", "bid"),
        ("bid.hot-ratio.auctions", "1"),
        ("hot_bidder_ratio", "10"),
        ("bid.avg-size", "40"),
        ("person.proportion", "2"),
        ("auction_proportion", "2"),
        ("bid_proportion", "4"),
        ("event_delay", "2 ms"),
        ("first_event_time", "2024-02-29T12:00:00Z"),
        ("active_people", "1"),
    ];
    let bids = first(own(Kind::Bid), "80000", &pairs).await;
    assert_eq!(bids.num_rows(), 40_000);
    assert!(share(numbers(&bids, "auction").iter(), |id| **id % 100 == 0) < 0.02, "none is hot");
    assert_near(share(numbers(&bids, "bidder").iter(), |id| **id % 100 == 1), 0.9, 0.01);
    assert_near(texts(&bids, "extra").map(str::len).sum::<usize>() as f64 / 40_000.0, 7.5, 0.1);
    let start = 1_709_208_000_000;
    assert_eq!(times(&bids, "date_time")[..5], [start + 8, start + 10, start + 12, start + 14, start + 24]);
}

#[tokio::test(start_paused = true)]
async fn events_come_at_their_rate() {
    let pairs = [("events_of", "bid"), ("events", "1000"), ("event_rate", "100")];
    let (factory, schema) = source(vec![("date_time", TIME), ("made_at", TIME)], &pairs);
    assert_eq!(factory.describe(), "nexmark, bids of 1000 events, 100 a second");
    let began = tokio::time::Instant::now();
    let (_, bids) = rows(&factory, vec![SourceContext::alone(schema, 8192)]).await;
    assert_eq!(bids.num_rows(), 920);
    assert_eq!(times(&bids, "date_time")[919] - times(&bids, "date_time")[0], 9_950);
    let took = began.elapsed().as_millis();
    assert!((9_950..10_050).contains(&took), "{took} ms");
}

#[tokio::test]
async fn what_never_ends_is_refused_in_a_bounded_run() {
    let (endless, schema) = source(own(Kind::Bid), &[("events_of", "bid"), ("events", "endless")]);
    assert_eq!(endless.boundedness(), Boundedness::Unbounded);
    assert_eq!(endless.describe(), "nexmark, bids of endless events, 10000 a second");
    let context = SourceContext::alone(schema, 10);
    let error = endless.open(SourceContext { bounded: true, ..context.clone() }).await.err().unwrap();
    assert_eq!(
        error.to_string(),
        "nexmark table t: never ends, so a bounded run would not either: add 'events' = '1000'"
    );
    let mut source = endless.open(context).await.unwrap();
    assert!(matches!(source.next().await.unwrap(), SourceEvent::Split(_, name, _) if name == "nexmark[0]"));
}

#[test]
fn names_of_other_engines_are_known() {
    let columns = vec![("dateTime", TIME), ("emailAddress", DataType::Utf8), ("creditcard", DataType::Utf8)];
    source(columns, &[("events_of", "person")]);
    let fields = Fields::from(vec![
        Field::new("itemName", DataType::Utf8, true),
        Field::new("initialBid", DataType::Int64, true),
        Field::new("datetime", DataType::Timestamp(TimeUnit::Nanosecond, None), true),
    ]);
    source(vec![("auction", DataType::Struct(fields))], &[]);
}

#[test]
fn mistakes_say_what_would_be_right() {
    let one = |column: (&str, DataType), pair: (&str, &str), message: &str, help: &str| {
        let mut options = options(&[pair]);
        NexmarkConnector.table(&table_of(vec![column]), &mut options);
        let errors = options.finish("nexmark");
        assert_eq!((errors.len(), errors[0].message.as_str()), (1, message));
        assert_eq!(errors[0].help.as_deref(), Some(help));
    };
    let bids = ("events_of", "bid");
    one(("prize", DataType::Int64), bids, "connector 'nexmark' makes no column 'prize'", "did you mean 'price'?");
    one(
        ("auction", DataType::Utf8),
        bids,
        "connector 'nexmark' makes no values of type Utf8 for column auction",
        "it is BIGINT",
    );
    one(
        ("price", DataType::Int64),
        ("events", "10"),
        "connector 'nexmark' makes no column 'price'",
        "it makes event_type, date_time, made_at, person, auction, bid",
    );
    one(
        ("bid", DataType::Int64),
        ("events", "10"),
        "connector 'nexmark' makes no values of type Int64 for column bid",
        "it is a STRUCT<auction BIGINT, bidder BIGINT, price BIGINT, channel TEXT, url TEXT, date_time TIMESTAMP(3), \
         extra TEXT>",
    );
    let misspelt = DataType::Struct(Fields::from(vec![Field::new("bider", DataType::Int64, true)]));
    one(
        ("bid", misspelt),
        ("events", "10"),
        "connector 'nexmark' makes no field 'bid.bider'",
        "did you mean 'bidder'?",
    );
    one(
        ("event_type", DataType::Int32),
        ("events_of", "bids"),
        "option 'events_of' does not take 'bids'",
        "did you mean 'bid'? It takes 'person', 'auction' or 'bid'",
    );
    let mut options = options(&[]);
    let mut table = table_of(whole());
    table.columns[4].nullable = false;
    NexmarkConnector.table(&table, &mut options);
    assert_eq!(options.finish("nexmark")[0].message, "column bid is NOT NULL, and events of another kind have no bid");
}

#[test]
fn wrong_times_say_what_would_be_right() {
    let mut options = options(&[("first_event_time", "yesterday")]);
    NexmarkConnector.table(&table_of(vec![]), &mut options);
    let errors = options.finish("nexmark");
    assert_eq!(errors[0].message, "option 'first_event_time' does not take 'yesterday'");
    assert_eq!(errors[0].help.as_deref(), Some("it takes a time such as '2015-07-15T00:00:00Z'"));
}
