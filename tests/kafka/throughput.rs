//! How fast the source alone is; the figure is printed (`cargo test --test kafka throughput -- --nocapture`).

use std::time::{Duration, Instant};

use acequia::connectors::kafka::producer::Feeder;
use acequia::connectors::{SourceContext, SourceEvent};
use tokio_util::sync::CancellationToken;

use crate::cluster::Cluster;
use crate::table::{bounded, definition, table};

const RECORDS: usize = 500_000;

#[tokio::test(flavor = "multi_thread")]
async fn throughput_of_the_source_alone() {
    let kafka = Cluster::shared();
    kafka.create_topic("fast", 1).await;
    let mut feeder = Feeder::new(&kafka.servers, "feeder", CancellationToken::new()).unwrap();
    let (began, cpu) = (Instant::now(), cpu_time());
    for number in 0..RECORDS {
        let value = format!("{{\"number\":{number:<163}}}");
        assert_eq!(value.len(), 174);
        feeder.send("fast", None, value.as_bytes()).await.unwrap();
    }
    feeder.flush().await.unwrap();
    report("Feeder", began, cpu);

    let source = table(&definition(&[]), &kafka.servers, &[("topic", "fast")]).source().unwrap();
    let context = SourceContext { wants_keys: false, wants_timestamps: false, ..bounded() };
    let (began, cpu) = (Instant::now(), cpu_time());
    let mut source = source.open(context).await.unwrap();
    let (mut records, mut events) = (0, 0);
    loop {
        match source.next().await.unwrap() {
            SourceEvent::Records(more) => {
                assert_eq!(more.offsets[0], records as i64);
                records += more.len();
                events += 1;
            }
            SourceEvent::End => break,
            _ => {}
        }
    }
    report("source", began, cpu);
    assert_eq!(records, RECORDS);
    println!("{} records an event", records / events);
}

fn report(what: &str, began: Instant, cpu: Duration) {
    let (wall, cpu) = (began.elapsed().as_secs_f64(), (cpu_time() - cpu).as_secs_f64());
    let records = RECORDS as f64;
    println!("{what}: {:.0} records/s, {:.3} µs of CPU a record", records / wall, cpu / records * 1e6);
}

/// User and system time of this process, in steps of 10 ms.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    Duration::from_millis(10 * (fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()))
}
