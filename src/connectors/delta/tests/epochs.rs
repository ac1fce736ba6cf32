//! Every row once, whatever happens on its way.

use super::flaky::Fault;
use super::*;
use crate::connectors::delta::sink::DeltaSinkFactory;
use crate::connectors::{OpenSink, SinkFactory};
use crate::faults::{Bug, plant};

#[tokio::test]
async fn epochs_are_gathered_until_a_commit_is_due() {
    let table = Table::new(&[("commit_rows", "4")]);
    let (mut sink, settled) = table.open(run(1, 0)).await;
    assert_eq!(settled, None);
    assert_eq!(table.marker().await.unwrap(), run(1, 0).marker(Epoch(0)), "the fence");
    assert_eq!(deliver(&mut sink, 1, &[1, 2]).await, Epoch(0), "it is not in the table yet");
    assert_eq!(deliver(&mut sink, 2, &[3]).await, Epoch(0));
    assert_eq!(table.version().await, 0);
    assert_eq!(deliver(&mut sink, 5, &[4, 5]).await, Epoch(5));
    assert_eq!((table.version().await, table.numbers().await), (1, vec![1, 2, 3, 4, 5]));
    assert_eq!(table.marker().await.unwrap(), run(1, 0).marker(Epoch(5)));
    assert_eq!(deliver(&mut sink, 6, &[6]).await, Epoch(5));
    assert_eq!(sink.settle(false).await.unwrap(), Some(Epoch(5)));
    assert_eq!(sink.settle(true).await.unwrap(), Some(Epoch(6)));
    assert_eq!(sink.settle(true).await.unwrap(), Some(Epoch(6)), "nothing new, no commit");
    assert_eq!((table.version().await, table.numbers().await), (2, vec![1, 2, 3, 4, 5, 6]));
    // Delivered again, it is recognised.
    assert_eq!(deliver(&mut sink, 6, &[6]).await, Epoch(6));
    assert_eq!(table.numbers().await, [1, 2, 3, 4, 5, 6]);
    sink.close().await.unwrap();
}

#[tokio::test]
async fn bytes_and_time_make_a_commit_due_too() {
    let table = Table::new(&[("commit_rows", "1000000"), ("commit_bytes", "1")]);
    let (mut sink, _) = table.open(run(1, 0)).await;
    assert_eq!(deliver(&mut sink, 1, &[1]).await, Epoch(1));
    let table = Table::new(&[("commit_rows", "1000000"), ("commit_interval", "1 ms")]);
    let (mut sink, _) = table.open(run(1, 0)).await;
    deliver(&mut sink, 1, &[1]).await;
    while sink.settle(false).await.unwrap() != Some(Epoch(1)) {
        tokio::task::yield_now().await;
    }
    assert_eq!(table.numbers().await, [1]);
}

#[tokio::test]
async fn a_run_goes_on_where_the_one_before_it_died() {
    let table = Table::new(&[("commit_rows", "3")]);
    let (mut sink, _) = table.open(run(1, 0)).await;
    assert_eq!(deliver(&mut sink, 1, &[1, 2, 3]).await, Epoch(1));
    // Gathered and lost.
    assert_eq!(deliver(&mut sink, 2, &[4]).await, Epoch(1));
    drop(sink);
    let (mut sink, settled) = table.open(run(2, 2)).await;
    assert_eq!(settled, Some(Epoch(1)));
    assert_eq!(deliver(&mut sink, 2, &[4, 5, 6]).await, Epoch(2));
    drop(sink);
    let (_, settled) = table.open(run(3, 2)).await;
    assert_eq!((settled, table.numbers().await), (Some(Epoch(2)), vec![1, 2, 3, 4, 5, 6]));
}

/// Delivers an epoch whose commit meets a fault, then goes on, and opens the table again: all numbers that are there.
async fn after_a_fault(part: &str, fault: Fault) -> Vec<i64> {
    let table = Table::new(&[]);
    let (mut sink, _) = table.open(run(1, 0)).await;
    deliver(&mut sink, 1, &[1, 2]).await;
    table.store.fail(part, fault);
    assert_eq!(deliver(&mut sink, 2, &[3, 4]).await, Epoch(2));
    assert_eq!(deliver(&mut sink, 3, &[5]).await, Epoch(3));
    let (_, settled) = table.open(run(2, 3)).await;
    assert_eq!(settled, Some(Epoch(3)));
    table.numbers().await
}

#[tokio::test]
async fn an_outcome_that_is_not_known_is_found_out() {
    for part in ["_delta_log", "part-"] {
        for fault in [Fault::Lost, Fault::AnswerLost] {
            assert_eq!(after_a_fault(part, fault).await, [1, 2, 3, 4, 5], "{part} {fault:?}");
        }
    }
    plant(Some(Bug::UnknownTakenForDone));
    let lost = after_a_commit_was_lost().await;
    plant(None);
    assert_ne!(lost, [1, 2, 3, 4], "UnknownTakenForDone is not noticed");
}

#[tokio::test]
async fn a_commit_that_was_found_is_not_forgotten_when_the_log_cannot_be_read_on() {
    let table = Table::new(&[]);
    let (mut sink, _) = table.open(run(1, 0)).await;
    // The upkeep would meet the second fault: it ends here.
    sink.close().await.unwrap();
    deliver(&mut sink, 1, &[1, 2]).await;
    // The commit is there, its answer is not, and behind it the store fails again.
    table.store.fail("_delta_log", Fault::AnswerLost);
    table.store.fail("00003.json", Fault::Unread);
    assert_eq!(deliver(&mut sink, 2, &[3, 4]).await, Epoch(2));
    assert!(table.store.has_failed(), "the commits have other numbers");
    assert_eq!(
        table.version().await,
        2,
        "it was put again: once more in the log, and in the table if it was put together"
    );
    assert_eq!(table.numbers().await, [1, 2, 3, 4]);
}

async fn after_a_commit_was_lost() -> Vec<i64> {
    let table = Table::new(&[]);
    let (mut sink, _) = table.open(run(1, 0)).await;
    deliver(&mut sink, 1, &[1, 2]).await;
    table.store.fail("_delta_log", Fault::Lost);
    deliver(&mut sink, 2, &[3, 4]).await;
    table.numbers().await
}

#[tokio::test]
async fn a_fence_whose_outcome_is_not_known_is_found_out() {
    for fault in [Fault::Lost, Fault::AnswerLost] {
        let table = Table::new(&[]);
        table.store.fail("_delta_log", fault);
        let (mut sink, settled) = table.open(run(1, 0)).await;
        assert!(settled.is_none_or(|settled| settled == Epoch(0)), "{settled:?}");
        assert_eq!(deliver(&mut sink, 1, &[1]).await, Epoch(1));
        table.store.fail("_delta_log", fault);
        let (mut sink, settled) = table.open(run(2, 1)).await;
        assert_eq!(settled, Some(Epoch(1)));
        deliver(&mut sink, 2, &[2]).await;
        assert_eq!(table.numbers().await, [1, 2], "{fault:?}");
    }
}

/// A run that dies when its data file cannot be put, and the one after it: the epoch that it finds, and the numbers.
async fn after_death_at_a_file() -> (Option<Epoch>, Vec<i64>) {
    let table = Table::new(&[]);
    let (mut sink, _) = table.open(run(1, 0)).await;
    deliver(&mut sink, 1, &[1]).await;
    for _ in 0..100 {
        table.store.fail("part-", Fault::Lost);
    }
    let death = tokio::time::timeout(std::time::Duration::from_secs(1), sink.deliver(Epoch(2), &rows(&[2]))).await;
    assert!(death.is_err(), "it does not wait for the store");
    drop(sink);
    (table.open(run(2, 2)).await.1, table.numbers().await)
}

#[tokio::test]
async fn the_marker_never_comes_before_the_rows() {
    assert_eq!(after_death_at_a_file().await, (Some(Epoch(1)), vec![1]));
    plant(Some(Bug::MarkerBeforeData));
    let (settled, numbers) = after_death_at_a_file().await;
    plant(None);
    assert!(settled == Some(Epoch(2)) && numbers == [1], "MarkerBeforeData is not noticed");
}

#[tokio::test]
async fn a_commit_costs_the_same_after_hundreds() {
    let table = Table::new(&[]);
    let (mut sink, _) = table.open(run(1, 0)).await;
    // The upkeep asks for more, but not for each commit: it ends here.
    sink.close().await.unwrap();
    table.store.asked();
    for epoch in 1..=200 {
        assert_eq!(deliver(&mut sink, epoch, &[epoch as i64]).await, Epoch(epoch));
        let asked: Vec<_> = table.store.asked().into_iter().collect();
        assert_eq!(asked, [("put", 2)], "a file and a commit, nothing else; epoch {epoch}");
    }
    assert_eq!(table.version().await, 200);
    assert_eq!(table.numbers().await, (1..=200).collect::<Vec<_>>());
    assert_eq!(table.open(run(2, 200)).await.1, Some(Epoch(200)));
}

#[tokio::test]
async fn other_commits_are_stepped_over() {
    let table = Table::new(&[]);
    let (mut sink, _) = table.open(run(1, 0)).await;
    deliver(&mut sink, 1, &[1]).await;
    // Another pipeline, with a marker of its own.
    let mut other = context(table.definition.writable_schema(), Some(Writer { pipeline: "other".into(), ..run(7, 0) }));
    other.pipeline = "other".into();
    let (mut others, settled) = DeltaEpochs::open(&table.options, table.place.clone(), &other).await.unwrap();
    assert_eq!(settled, None);
    for epoch in 2..5 {
        let number = epoch as i64;
        assert_eq!(deliver(&mut sink, epoch, &[number]).await, Epoch(epoch));
        assert_eq!(deliver(&mut others, epoch, &[10 + number]).await, Epoch(epoch));
    }
    assert_eq!(table.numbers().await, [1, 2, 3, 4, 12, 13, 14]);
    assert_eq!(table.marker().await.unwrap(), run(1, 0).marker(Epoch(4)));
}

#[tokio::test]
async fn without_checkpoints_rows_are_committed_when_it_is_time_and_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/events");
    let options = taken(&two_columns(), &[("path", path.to_str().unwrap()), ("commit_rows", "3")]);
    let place = options.place(folder.path()).unwrap();
    let table = Table { place, options: options.clone(), ..Table::new(&[]) };
    for numbers in [[1, 2, 3, 4], [5, 6, 7, 8]] {
        let factory = DeltaSinkFactory { options: options.clone() };
        let OpenSink::AtOnce(mut sink) = factory.open(context(two_columns().writable_schema(), None)).await.unwrap()
        else {
            panic!("it should take rows at once")
        };
        let (first, last) = numbers.split_at(3);
        sink.write(rows(first).remove(0)).await.unwrap();
        assert_eq!(table.numbers().await.last(), first.last(), "three rows make a commit");
        sink.write(rows(last).remove(0)).await.unwrap();
        sink.flush().await.unwrap();
        assert_eq!(table.numbers().await.last(), first.last());
        sink.close().await.unwrap();
        assert_eq!(table.numbers().await.last(), last.last());
    }
    assert_eq!(table.numbers().await, (1..=8).collect::<Vec<_>>());
    assert_eq!(table.version().await, 4, "the table is made once");
    assert_eq!(std::fs::read_dir(path.join("_staging")).unwrap().count(), 0, "nothing unfinished stays");
}

#[tokio::test]
async fn a_path_that_can_be_no_folder_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "text").unwrap();
    let path = file.join("events");
    let options = taken(&two_columns(), &[("path", path.to_str().unwrap())]);
    let context = context(two_columns().writable_schema(), Some(run(1, 0)));
    let error = DeltaSinkFactory { options }.open(context).await.err().unwrap();
    assert_eq!(
        error.to_string(),
        format!("Delta table {}: cannot write or read it: a part of the path is a file, not a folder", path.display())
    );
}
