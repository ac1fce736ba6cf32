//! At whatever moment somebody looks: what a sink has been given by then and what the look shows are together what a run
//! over the input up to that moment gives. The planner's own graphs, each operator with state among them; and the run
//! that is looked at ends with the rows of one that is not.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use acequia::checkpoint::state::EpochState;
use acequia::connectors::Positions;
use acequia::dataflow::listener::EpochListener;
use acequia::dataflow::live::board::Board;
use acequia::dataflow::live::{LiveError, LiveKind, Since};
use acequia::dataflow::recovery::Beginning;
use acequia::dataflow::statistics::Statistics;
use acequia::dataflow::{RunOptions, run_from};
use acequia::formats::{EncodeOptions, EncodedRows};
use acequia::time::Epoch;
use arrow::array::RecordBatch;
use futures::future::join_all;
use parking_lot::Mutex;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio_util::sync::CancellationToken;

use crate::parts::{Lines, graph, lines, seen};

/// Where each source stood at the end of each epoch.
#[derive(Default)]
struct Places(Mutex<BTreeMap<Epoch, BTreeMap<String, Positions>>>);

impl EpochListener for Places {
    fn completed(&self, added: EpochState) {
        let mut epochs = self.0.lock();
        let mut places = epochs.last_key_value().map(|(_, places)| places.clone()).unwrap_or_default();
        for (name, source) in added.sources {
            places.entry(name).or_default().extend(source.positions);
        }
        epochs.insert(added.epoch, places);
    }
}

fn options(parallelism: usize) -> RunOptions {
    RunOptions {
        pipeline: "test".into(),
        parallelism,
        batch_size: 3,
        bounded: true,
        checkpoint_interval: Duration::from_millis(5),
        checkpoint_bytes: 64 << 20,
        linger: Duration::from_secs(3600),
        data_dir: PathBuf::new(),
        wall_clock: None,
        drain: CancellationToken::new(),
        abort: CancellationToken::new(),
    }
}

/// The rows of a run over all of the input, by table.
async fn whole(inputs: &[Lines], parallelism: usize) -> BTreeMap<String, Vec<String>> {
    let (graph, logs) = graph(inputs).await;
    let statistics = Arc::new(Statistics::of(&graph));
    run_from(graph, options(parallelism), statistics, Beginning::default()).await.unwrap();
    logs.into_iter().map(|(table, (mode, log))| (table, seen(&mode, log.lock().rows(None).to_vec()))).collect()
}

fn json_rows(batches: &[RecordBatch]) -> Vec<String> {
    let mut encoded = EncodedRows::default();
    for batch in batches {
        EncodeOptions::default().encoder(batch.schema()).unwrap().encode(batch, &mut encoded).unwrap();
    }
    encoded.iter().map(|row| String::from_utf8_lossy(row).into_owned()).collect()
}

/// What one look has shown: the epoch, and the rows of each table.
type Shown = (Epoch, BTreeMap<String, Vec<String>>);

/// Asks for all tables at once, again and again, until the run is at its end.
async fn look(board: Arc<Board>, tables: Vec<String>, seed: u64) -> Vec<Shown> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut looks: Vec<Shown> = vec![];
    loop {
        tokio::time::sleep(Duration::from_micros(random.random_range(6_000..60_000))).await;
        let answers = join_all(tables.iter().map(|table| board.rows(table, &Since::Destination))).await;
        let mut shown = BTreeMap::new();
        let mut epochs = vec![];
        for (table, answer) in tables.iter().zip(answers) {
            match answer {
                Ok(rows) => {
                    epochs.push(rows.epoch.unwrap());
                    shown.insert(table.clone(), json_rows(&rows.batches));
                }
                Err(LiveError::Ended { .. }) => return looks,
                Err(error) => panic!("{error}"),
            }
        }
        assert!(epochs.iter().all(|epoch| *epoch == epochs[0]), "all who ask at once share an epoch: {epochs:?}");
        looks.push((epochs[0], shown));
    }
}

/// The input up to where its sources stood.
fn up_to(inputs: &[Lines], places: &BTreeMap<String, Positions>) -> Vec<Lines> {
    let cut = |lines: &Lines| {
        let positions = places.get(lines.table).cloned().unwrap_or_default();
        let splits = lines.splits.iter().enumerate().map(|(index, split)| {
            let read = positions.get(&format!("{}[{index}]", lines.table)).copied().unwrap_or(0);
            split[..read as usize].to_vec()
        });
        Lines { splits: Arc::new(splits.collect()), ..lines.clone() }
    };
    inputs.iter().map(cut).collect()
}

#[tokio::test(start_paused = true)]
async fn a_look_shows_what_a_run_over_the_input_so_far_would_add() {
    let mut rows_shown = BTreeMap::<String, usize>::new();
    for (seed, parallelism) in [(1, 1), (2, 3)] {
        let paced = |lines: Lines| Lines { pace: Duration::from_millis(40), ..lines };
        let inputs = [lines("clicks", seed, 3, 150), lines("orders", seed + 100, 2, 150)].map(paced);
        let expected = whole(&inputs, parallelism).await;

        let (graph, logs) = graph(&inputs).await;
        let board = Arc::new(Board::new(&graph));
        let added = board.tables().filter(|table| table.kind == LiveKind::Added).map(|table| table.name.clone());
        let looks = tokio::spawn(look(Arc::clone(&board), added.collect(), seed));
        let places = Arc::new(Places::default());
        let listener = Some(Arc::clone(&places) as Arc<dyn EpochListener>);
        let beginning = Beginning { live: Some(board), listener, ..Beginning::default() };
        let statistics = Arc::new(Statistics::of(&graph));
        run_from(graph, options(parallelism), statistics, beginning).await.unwrap();
        let looks = looks.await.unwrap();

        for (table, (mode, log)) in &logs {
            assert_eq!(seen(mode, log.lock().rows(None).to_vec()), expected[table], "{table} has not been looked at");
        }
        assert!(looks.len() > 5, "{} looks show nothing", looks.len());
        for (epoch, tables) in looks.into_iter().step_by(2).take(6) {
            let so_far = up_to(&inputs, &places.0.lock()[&epoch]);
            let expected = whole(&so_far, 2).await;
            for (table, rows) in tables {
                *rows_shown.entry(table.clone()).or_default() += rows.len();
                let (mode, log) = &logs[&table];
                let given = log.lock().rows(Some(epoch.0 as usize)).to_vec();
                let together = seen(mode, given.into_iter().chain(rows).collect());
                assert_eq!(together, expected[&table], "{table} at epoch {epoch}, seed {seed}");
            }
        }
    }
    for (table, rows) in rows_shown {
        // A table of late rows is never behind.
        assert!(rows > 10 || table == "late_clicks", "{table}: {rows} rows show nothing");
    }
}
