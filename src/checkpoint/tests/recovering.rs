//! What one run has appended the next goes on from.

use super::super::local_store::LocalStore;
use super::super::log::{CheckpointError, Confirmed};
use super::super::store;
use super::super::takeover::take_over;
use super::*;

pub(super) async fn going_on(store: Arc<dyn Store>) {
    let (mut log, recovered) = open(&store).await;
    assert!(recovered.is_none());
    assert_eq!((log.last_epoch(), log.writer().incarnation.0, log.writer().resumed), (Epoch(0), 1, Epoch(0)));
    let id = log.writer().log;
    append(&mut log, 5).await;
    log.settled("sink", Epoch(2));
    append(&mut log, 1).await;
    let reader = log.outbox();
    assert_eq!(reader.epochs("sink", Epoch(2)), epochs(3..=6));
    assert_eq!(values(&reader.read("sink", Epoch(4)).await.unwrap()), [4]);
    assert!(reader.read("sink", Epoch(9)).await.unwrap().is_empty());
    drop(log);

    let (mut log, recovered) = open(&store).await;
    let recovered = recovered.unwrap();
    assert_eq!((log.last_epoch(), log.writer().incarnation.0, log.writer().resumed), (Epoch(6), 2, Epoch(6)));
    assert_eq!(log.writer().log, id);
    assert_eq!(state_of(&recovered), [1, 2, 3, 4, 5, 6]);
    assert_eq!(recovered.undelivered["sink"], epochs(3..=6));
    assert_eq!(recovered.operators["sums"], Fingerprint("sum of v".into()));
    let source = &recovered.state.sources["source"];
    assert_eq!((source.positions["t[0]"], source.origin.as_deref()), (6, Some("cluster")));
    assert_eq!(source.split_origins["t[0]"], "after 6");
    assert_eq!((source.watermarks["t[0]"], source.watermarks["t[1]"]), (EventTime(6), EventTime::MIN));
    let sums = &recovered.state.operators["sums"];
    let (instance, last) = sums.batches.last().unwrap();
    // A batch without rows says how far the instance was.
    assert_eq!((*instance, last.num_rows(), last.schema().metadata()["acequia.watermark"].as_str()), (1, 0, "6"));
    assert_eq!(sums.watermark, EventTime(6));

    append(&mut log, 1).await;
    drop(log);
    let (_, recovered) = open(&store).await;
    assert_eq!(state_of(&recovered.unwrap()), [1, 2, 3, 4, 5, 6, 7]);
}

#[tokio::test]
async fn a_run_goes_on_where_the_last_one_stood() {
    going_on(memory()).await;
    let place = tempfile::tempdir().unwrap();
    going_on(Arc::new(LocalStore::new(place.path().join("new/folder")))).await;
}

#[tokio::test]
async fn checkpoints_of_a_version_that_left_the_run_out_of_their_names_are_gone_on_from() {
    let store = memory();
    let (mut log, _) = open(&store).await;
    append(&mut log, 3).await;
    drop(log);
    for (path, _) in store.list("manifests").await.unwrap() {
        let bytes = store.get(&path).await.unwrap();
        store.put(&path.replace("-1.json", ".json"), bytes).await.unwrap();
        store.delete(&path).await.unwrap();
    }
    let (mut log, recovered) = open(&store).await;
    assert_eq!(state_of(&recovered.unwrap()), [1, 2, 3]);
    append(&mut log, 3).await;
    drop(log);
    let names: Vec<String> = store.list("manifests").await.unwrap().into_iter().map(|(path, _)| path).collect();
    assert!(names.iter().all(|name| name.contains("-2.json")), "{names:?}");
    let (_, recovered) = open(&store).await;
    assert_eq!(state_of(&recovered.unwrap()), (1..=6).collect::<Vec<_>>());
}

#[tokio::test]
async fn rows_that_were_confirmed_when_an_epoch_was_gathered_do_not_come_again_after_it() {
    let store = memory();
    let (mut log, _) = open(&store).await;
    append(&mut log, 3).await;
    let mut fourth = record(Epoch(4));
    fourth.outbox = [("sink".into(), SinkRows { confirmed: Some(Epoch(2)), ..SinkRows::default() })].into();
    log.append(fourth).await.unwrap();
    drop(log);
    let (_, recovered) = open(&store).await;
    assert_eq!(recovered.unwrap().undelivered["sink"], epochs([3]));
}

#[tokio::test]
async fn what_is_confirmed_after_the_last_epoch_is_written_at_an_orderly_end() {
    for (whole, finished) in [(false, false), (false, true), (true, false)] {
        let store = memory();
        let (mut log, _) = open(&store).await;
        for n in 1..=3 {
            let mut record = EpochRecord { finished: finished && n == 3, ..record(Epoch(n)) };
            record.outbox.values_mut().for_each(|rows| rows.whole = whole);
            if record.finished {
                record.added.operators.clear();
            }
            log.append(record).await.unwrap();
        }
        log.settled("sink", Epoch(3));
        log.end().await.unwrap();
        let (mut log, recovered) = open(&store).await;
        let recovered = recovered.unwrap();
        // A sink that takes whole epochs has a marker, and needs no manifest for that.
        let (epoch, undelivered) = if whole { (3, Some(epochs([1, 2, 3]))) } else { (4, None) };
        assert_eq!(recovered.undelivered.get("sink"), undelivered.as_ref());
        assert_eq!((recovered.state.epoch, recovered.finished), (Epoch(epoch), finished));
        assert_eq!(recovered.state.sources, record(Epoch(3)).added.sources);
        match finished {
            true => assert!(recovered.state.operators.is_empty()),
            false => assert_eq!(state_of(&recovered), [1, 2, 3]),
        }
        // Told once more, it writes nothing.
        let before = all_files(&store).await;
        if !whole {
            log.settled("sink", Epoch(3));
        }
        log.end().await.unwrap();
        assert_eq!(all_files(&store).await, before);
    }
}

#[tokio::test]
async fn nothing_new_writes_nothing() {
    let store = memory();
    let (mut log, _) = open(&store).await;
    append(&mut log, 1).await;
    let before = all_files(&store).await;
    let mut same = record(Epoch(2));
    same.outbox.clear();
    same.added.operators.values_mut().for_each(|operator| operator.batches.clear());
    same.added.sources = record(Epoch(1)).added.sources;
    assert_eq!(log.append(same).await.unwrap().bytes, 0);
    assert_eq!(all_files(&store).await, before);
}

#[tokio::test]
async fn the_end_of_the_input_replaces_all_state_but_not_what_waits() {
    let store = memory();
    let (mut log, _) = open(&store).await;
    append(&mut log, 3).await;
    let mut last = record(Epoch(4));
    last.finished = true;
    last.added.operators.clear();
    log.append(last).await.unwrap();
    drop(log);
    let (_, recovered) = open(&store).await;
    let recovered = recovered.unwrap();
    assert!(recovered.finished && recovered.state.operators.is_empty());
    assert_eq!(recovered.state.sources["source"].positions["t[0]"], 4);
    assert_eq!(recovered.undelivered["sink"], epochs(1..=4));
}

#[tokio::test]
async fn one_can_begin_anew_or_go_on_from_an_older_one() {
    let store = memory();
    let (mut log, _) = open(&store).await;
    append(&mut log, 5).await;
    drop(log);
    let from = LogOptions { from: Some(Epoch(4)), ..options() };
    let (mut log, recovered) = CheckpointLog::open(Arc::clone(&store), from).await.unwrap();
    assert_eq!(state_of(recovered.as_ref().unwrap()), [1, 2, 3, 4]);
    // The number of the epoch that was set aside is not used again.
    assert_eq!((log.last_epoch(), log.writer().resumed), (Epoch(5), Epoch(4)));
    begin(&mut log, recovered.as_ref());
    append(&mut log, 1).await;
    drop(log);
    let (log, recovered) = open(&store).await;
    assert_eq!((state_of(&recovered.unwrap()), log.last_epoch()), (vec![1, 2, 3, 4, 6], Epoch(6)));
    drop(log);

    let gone = CheckpointLog::open(Arc::clone(&store), LogOptions { from: Some(Epoch(9)), ..options() }).await;
    assert_eq!(gone.err().unwrap().to_string(), "there is no checkpoint 9 at memory:///; there are: 3, 4, 6");

    let fresh = LogOptions { fresh: true, ..options() };
    let (log, recovered) = CheckpointLog::open(Arc::clone(&store), fresh).await.unwrap();
    assert!(recovered.is_none() && log.writer().fresh);
    assert_eq!((log.last_epoch(), log.writer().resumed), (Epoch(6), Epoch(0)));
}

#[tokio::test]
async fn a_run_that_is_refused_before_its_first_epoch_leaves_all_as_it_was() {
    let store = memory();
    let (mut log, _) = open(&store).await;
    append(&mut log, 5).await;
    drop(log);
    let before = all_files(&store).await;
    let refused = LogOptions { from: Some(Epoch(3)), ..options() };
    let (log, _) = CheckpointLog::open(Arc::clone(&store), refused).await.unwrap();
    assert!(log.is_departing());
    drop(log);
    let mut after = all_files(&store).await;
    after.retain(|path, _| !path.starts_with("incarnations/"));
    assert!(after.iter().all(|(path, bytes)| before.get(path) == Some(bytes)), "{:?}", after.keys());
    let (log, recovered) = open(&store).await;
    assert_eq!(state_of(&recovered.unwrap()), [1, 2, 3, 4, 5]);
    assert!(!log.is_departing());
    drop(log);
    // Once it is sure to go on, what it leaves behind is put aside, though it may write nothing.
    let accepted = LogOptions { from: Some(Epoch(4)), ..options() };
    let (mut log, _) = CheckpointLog::open(Arc::clone(&store), accepted).await.unwrap();
    log.depart().await.unwrap();
    assert!(!log.is_departing());
    drop(log);
    let (log, recovered) = open(&store).await;
    assert_eq!((state_of(&recovered.unwrap()), log.last_epoch()), (vec![1, 2, 3, 4], Epoch(5)));
    drop(log);
    // To open a destination anew may empty it: there is no way back from then on.
    let (log, _) = CheckpointLog::open(Arc::clone(&store), LogOptions { fresh: true, ..options() }).await.unwrap();
    assert!(log.is_departing());
    drop(log);
    let (log, recovered) = open(&store).await;
    assert!(recovered.is_none() && log.last_epoch() == Epoch(5));
}

#[tokio::test]
async fn putting_aside_that_is_broken_off_leaves_the_newest_or_the_one_asked_for() {
    for (calls, carries_out) in (0..80).flat_map(|calls| [(calls, false), (calls, true)]) {
        let disk = memory();
        let (mut log, _) = open(&disk).await;
        append(&mut log, 5).await;
        drop(log);
        let from = LogOptions { from: Some(Epoch(3)), ..options() };
        let failing = super::failing::Failing::after(&disk, calls, carries_out, i64::MAX);
        let departed = match CheckpointLog::open(failing, from).await {
            Ok((mut log, _)) => log.depart().await.is_ok(),
            Err(_) => false,
        };
        let (_, recovered) = open(&disk).await;
        let state = state_of(&recovered.unwrap());
        assert!(state == [1, 2, 3] || !departed && state == [1, 2, 3, 4, 5], "{calls} calls: {departed}, {state:?}");
    }
}

#[tokio::test]
async fn state_goes_on_under_a_new_name() {
    let store = memory();
    let (mut log, _) = open(&store).await;
    append(&mut log, 2).await;
    drop(log);
    let (mut log, recovered) = CheckpointLog::open(Arc::clone(&store), options()).await.unwrap();
    let mut state = recovered.unwrap().state;
    let sums = state.operators.remove("sums").unwrap();
    state.operators.insert("totals".into(), sums);
    let renamed = [("sums".to_owned(), "totals".to_owned())].into();
    let mut known = identities();
    known.operators = [("totals".into(), Fingerprint("sum of v".into()))].into();
    log.begin(&Takeover { state, renamed, ..Takeover::default() }, known, Arc::new(Merge));
    let mut third = record(Epoch(3));
    let changed = third.added.operators.remove("sums").unwrap();
    third.added.operators.insert("totals".into(), changed);
    log.append(third).await.unwrap();
    drop(log);
    let (_, recovered) = CheckpointLog::open(store, options()).await.unwrap();
    let mut recovered = recovered.unwrap();
    let totals = recovered.state.operators.remove("totals").unwrap();
    assert!(recovered.state.operators.is_empty());
    recovered.state.operators.insert("sums".into(), totals);
    assert_eq!(state_of(&recovered), [1, 2, 3]);
}

#[tokio::test]
async fn a_second_run_is_kept_out_while_the_first_is_alive() {
    let place = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = Arc::new(LocalStore::new(place.path()));
    let (log, _) = open(&store).await;
    let error = CheckpointLog::open(Arc::clone(&store), options()).await.err().unwrap();
    assert!(matches!(error, CheckpointError::Held(_)));
    let message = error.to_string();
    let began =
        format!("the checkpoints at {} are in use by process {} on ", place.path().display(), std::process::id());
    assert!(message.starts_with(&began), "{message}");
    assert!(message.ends_with("a pipeline runs once at a time. Stop that run, or give this one another --name"));
    drop(log);
    open(&store).await;
}

#[tokio::test]
async fn a_later_run_fences_this_one_where_there_are_no_locks() {
    fencing(memory()).await;
}

/// A second run begins while the first still goes on.
pub(super) async fn fencing(store: Arc<dyn Store>) {
    let (mut first, _) = open(&store).await;
    append(&mut first, 1).await;
    let (mut second, _) = open(&store).await;
    let fenced = first.append(record(Epoch(2))).await.unwrap_err();
    assert!(matches!(fenced, CheckpointError::Fenced(_)));
    assert_eq!(
        fenced.to_string(),
        format!("run 2 of pipeline shop has taken over the checkpoints at {} from this one, run 1", store.describe())
    );
    append(&mut second, 1).await;
}

#[test]
fn places_that_are_none_are_refused_with_what_would_be_right() {
    let refusal = |place: &str| store::open(place).err().unwrap().to_string();
    assert_eq!(
        refusal("ftp://me:secret@host/x"),
        "ftp://host/x: checkpoints cannot be kept in 'ftp': give a folder's path, file:///folder or s3://bucket/prefix"
    );
    assert_eq!(refusal("s3:///x"), "s3: the URL names no bucket; checkpoints in S3 are named s3://bucket/prefix");
    assert_eq!(store::open("/a/folder").unwrap().describe(), "/a/folder");
    assert_eq!(store::open("file:///a/folder").unwrap().describe(), "/a/folder");
}

#[tokio::test]
async fn epochs_that_wait_take_no_room_from_those_that_may_be_lost() {
    let store = memory();
    let (mut log, _) = open(&store).await;
    append(&mut log, 20).await;
    log.settled("sink", Epoch(20));
    // The destination is away.
    append(&mut log, 40).await;
    assert_eq!(log.outbox().epochs("sink", Epoch(0)), epochs(5..=60));
    assert_eq!(log.outbox().confirmed("sink").let_go, Some(Epoch(4)));
    drop(log);
    let (log, _) = open(&store).await;
    assert_eq!(log.outbox().epochs("sink", Epoch(17)), epochs(18..=60));
    let confirmed = Confirmed { settled: Some(Epoch(20)), let_go: Some(Epoch(4)), ..Confirmed::default() };
    assert_eq!(log.outbox().confirmed("sink"), confirmed);
}

#[tokio::test]
async fn another_destination_is_noticed_until_it_has_got_something() {
    let store = memory();
    let (mut log, recovered) = open(&store).await;
    append(&mut log, 2).await;
    log.settled("sink", Epoch(2));
    append(&mut log, 1).await;
    drop((log, recovered));
    let elsewhere = || Identities { sinks: [("sink".into(), "elsewhere".into())].into(), ..identities() };
    let begun = async |identities: Identities| {
        let (mut log, recovered) = CheckpointLog::open(Arc::clone(&store), options()).await.unwrap();
        let takeover = take_over(&recovered.unwrap(), &identities, false).unwrap();
        log.begin(&takeover, identities, Arc::new(Merge));
        log
    };
    assert!(!begun(identities()).await.outbox().confirmed("sink").moved);
    let mut log = begun(elsewhere()).await;
    assert!(log.outbox().confirmed("sink").moved);
    append(&mut log, 1).await;
    drop(log);
    let mut log = begun(elsewhere()).await;
    assert!(log.outbox().confirmed("sink").moved, "nothing has come there yet");
    log.settled("sink", Epoch(4));
    append(&mut log, 1).await;
    drop(log);
    assert!(!begun(elsewhere()).await.outbox().confirmed("sink").moved);
}
