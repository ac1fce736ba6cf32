//! What a queue gives its deliverer, and what it keeps for the checkpoint.

use std::convert::Infallible;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::datatypes::Int64Type;
use futures::FutureExt;

use super::*;

fn batch(value: i64) -> RecordBatch {
    let column: ArrayRef = Arc::new(Int64Array::from(vec![value]));
    RecordBatch::try_from_iter([("value", column)]).unwrap()
}

fn values(batches: &[RecordBatch]) -> Vec<i64> {
    batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
}

/// What is to be done, in a short form.
fn next(outbox: &Outbox) -> String {
    match outbox.next() {
        None => "nothing".into(),
        Some(Work::Deliver(epoch, Some(rows))) => format!("deliver {epoch}: {:?}", values(&rows)),
        Some(Work::Deliver(epoch, None)) => format!("deliver {epoch} from the log"),
        Some(Work::Write(batch)) => format!("write {:?}", values(&[batch])),
        Some(Work::Load(epoch)) => format!("load {epoch}"),
        Some(Work::Flush) => "flush".into(),
        Some(Work::Settled(epoch)) => format!("settled {epoch}"),
        Some(Work::Close) => "close".into(),
    }
}

fn no_epochs(_: Epoch) -> Result<Vec<Epoch>, Infallible> {
    panic!("nothing was lost")
}

#[test]
fn a_whole_epoch_is_delivered_when_it_is_durable_and_not_before() {
    let outbox = Outbox::new(Delivery::PerEpoch, true, &[]);
    outbox.push(batch(1));
    assert_eq!(next(&outbox), "nothing");
    assert_eq!(values(&outbox.seal(Some(Epoch(4)))), [1]);
    outbox.push(batch(2));
    assert_eq!(next(&outbox), "nothing");
    outbox.durable(Epoch(4));
    assert_eq!(next(&outbox), "deliver 4: [1]");
    assert_eq!(next(&outbox), "nothing");
    outbox.settle(Epoch(4), no_epochs).unwrap();
    // The end of the input, whose epoch the coordinator numbers.
    assert_eq!(values(&outbox.seal(None)), [2]);
    outbox.durable(Epoch(5));
    assert_eq!(next(&outbox), "nothing", "which epoch it is in is not known");
    outbox.assign(Epoch(6));
    outbox.durable(Epoch(6));
    outbox.close();
    assert_eq!(next(&outbox), "deliver 6: [2]");
    assert!(!outbox.is_closed_and_empty());
    outbox.settle(Epoch(6), no_epochs).unwrap();
    assert_eq!(next(&outbox), "close");
    assert!(outbox.is_closed_and_empty());
}

#[test]
fn who_looks_sees_what_is_not_settled_up_to_the_epoch() {
    let outbox = Outbox::new(Delivery::PerEpoch, true, &[Epoch(3)]);
    let seen = |epoch| {
        let Unsettled { settled, waiting } = outbox.unsettled(Epoch(epoch));
        let rows = waiting.into_iter().map(|(epoch, rows)| (epoch.0, rows.map(|rows| values(&rows))));
        (settled.map(|epoch| epoch.0), rows.collect::<Vec<_>>())
    };
    assert!(!outbox.knows_destination(), "nobody has asked it");
    outbox.lacks(vec![Epoch(3)]);
    assert!(outbox.knows_destination());
    outbox.push(batch(4));
    outbox.seal(Some(Epoch(4)));
    outbox.push(batch(5));
    assert_eq!(seen(4), (None, vec![(3, None), (4, Some(vec![4]))]));
    outbox.seal(Some(Epoch(5)));
    outbox.push(batch(6));
    outbox.seal(None);
    assert_eq!(seen(4).1.len(), 2, "not what came later");
    outbox.durable(Epoch(5));
    assert_eq!([next(&outbox), next(&outbox)], ["deliver 3 from the log", "deliver 4: [4]"]);
    assert_eq!(seen(5), (None, vec![(3, None), (4, None), (5, Some(vec![5]))]));
    outbox.settle(Epoch(4), no_epochs).unwrap();
    assert_eq!(seen(5), (Some(4), vec![(5, Some(vec![5]))]));
    assert_eq!(seen(9), (Some(4), vec![(5, Some(vec![5]))]), "whose epoch is not known yet");
}

#[test]
fn the_end_of_the_input_behind_a_barrier_belongs_to_the_next_epoch() {
    let outbox = Outbox::new(Delivery::PerEpoch, true, &[]);
    outbox.push(batch(1));
    outbox.seal(Some(Epoch(4)));
    // The end comes while others still wait for the barrier.
    outbox.push(batch(2));
    outbox.seal(None);
    outbox.assign(Epoch(4));
    outbox.durable(Epoch(4));
    assert_eq!(next(&outbox), "deliver 4: [1]");
    outbox.settle(Epoch(4), no_epochs).unwrap();
    assert_eq!(next(&outbox), "nothing");
    outbox.assign(Epoch(5));
    outbox.durable(Epoch(5));
    assert_eq!(next(&outbox), "deliver 5: [2]");
}

#[test]
fn the_end_of_the_input_behind_a_barrier_without_rows_belongs_to_the_next_epoch() {
    let outbox = Outbox::new(Delivery::AtOnce, true, &[]);
    let large: ArrayRef = Arc::new(Int64Array::from(vec![1; MEMORY / 8 + 1]));
    let large = RecordBatch::try_from_iter([("value", large)]).unwrap();
    assert!(outbox.seal(Some(Epoch(4))).is_empty());
    // The end comes while others still wait for the barrier. The log has it under the next epoch.
    outbox.push(large);
    let rows = outbox.seal(None);
    assert_eq!(rows.len(), 1);
    outbox.assign(Epoch(4));
    outbox.durable(Epoch(4));
    assert!(outbox.backlog().bytes > MEMORY as u64, "it cannot be read back yet");
    outbox.assign(Epoch(5));
    outbox.durable(Epoch(5));
    assert_eq!(next(&outbox), "load 5");
    outbox.reload(Epoch(5), rows);
    let Some(Work::Write(rows)) = outbox.next() else { panic!("it is not written") };
    assert_eq!(rows.num_rows(), MEMORY / 8 + 1);
    outbox.confirm();
    assert_eq!(next(&outbox), "settled 5");
}

#[test]
fn what_a_destination_has_lost_since_an_earlier_run_waits_again() {
    let outbox = Outbox::new(Delivery::PerEpoch, true, &[Epoch(5), Epoch(6)]);
    outbox.lacks(vec![Epoch(3), Epoch(4), Epoch(5), Epoch(6)]);
    for epoch in [3, 4, 5, 6] {
        assert_eq!(next(&outbox), format!("deliver {epoch} from the log"));
    }
    assert_eq!(next(&outbox), "nothing");
}

#[test]
fn an_epoch_without_rows_is_not_delivered() {
    let outbox = Outbox::new(Delivery::PerEpoch, true, &[]);
    assert!(outbox.seal(Some(Epoch(1))).is_empty());
    outbox.durable(Epoch(1));
    assert_eq!(next(&outbox), "nothing");
}

#[test]
fn undelivered_epochs_of_an_earlier_run_come_first_and_the_marker_takes_them_out() {
    let outbox = Outbox::new(Delivery::PerEpoch, true, &[Epoch(3), Epoch(5)]);
    outbox.push(batch(1));
    outbox.seal(Some(Epoch(6)));
    outbox.durable(Epoch(6));
    outbox.settle(Epoch(3), no_epochs).unwrap();
    assert_eq!(next(&outbox), "deliver 5 from the log");
    assert_eq!(next(&outbox), "deliver 6: [1]");
}

#[test]
fn a_destination_that_gathers_epochs_settles_them_later() {
    let outbox = Outbox::new(Delivery::PerEpoch, true, &[]);
    for epoch in [1, 2] {
        outbox.push(batch(epoch));
        outbox.seal(Some(Epoch(epoch as u64)));
        outbox.durable(Epoch(epoch as u64));
        next(&outbox);
    }
    outbox.close();
    assert_eq!(next(&outbox), "close");
    assert!(!outbox.is_closed_and_empty());
    outbox.settle(Epoch(2), no_epochs).unwrap();
    assert!(outbox.is_closed_and_empty());
}

#[test]
fn what_a_destination_has_lost_is_delivered_again() {
    let outbox = Outbox::new(Delivery::PerEpoch, true, &[]);
    for epoch in [1, 2, 3, 4] {
        outbox.push(batch(epoch));
        outbox.seal(Some(Epoch(epoch as u64)));
        outbox.durable(Epoch(epoch as u64));
    }
    for epoch in [1, 2, 3] {
        next(&outbox);
        outbox.settle(Epoch(epoch), no_epochs).unwrap();
    }
    outbox.push(batch(5));
    assert_eq!(outbox.settle(Epoch(1), |_| Err("kept no more")), Err("kept no more"));
    let kept = |after| {
        assert_eq!(after, Epoch(1));
        Ok::<_, Infallible>(vec![Epoch(2), Epoch(3), Epoch(4)])
    };
    outbox.settle(Epoch(1), kept).unwrap();
    for epoch in [2, 3, 4] {
        assert_eq!(next(&outbox), format!("deliver {epoch} from the log"));
    }
    outbox.seal(Some(Epoch(5)));
    outbox.durable(Epoch(5));
    assert_eq!(next(&outbox), "deliver 5: [5]");
}

#[tokio::test]
async fn rows_at_once_are_kept_at_a_barrier_only_if_they_are_not_confirmed() {
    let outbox = Outbox::new(Delivery::AtOnce, true, &[]);
    outbox.push(batch(1));
    outbox.push(batch(2));
    assert_eq!(next(&outbox), "write [1]");
    let number = outbox.ask_flush();
    assert!(outbox.flushed(number).now_or_never().is_none());
    assert_eq!(next(&outbox), "write [2]");
    assert_eq!(next(&outbox), "flush");
    outbox.confirm();
    assert!(outbox.flushed(number).now_or_never().is_some());
    outbox.push(batch(3));
    assert_eq!(next(&outbox), "write [3]");
    outbox.push(batch(4));
    assert_eq!(values(&outbox.seal(Some(Epoch(1)))), [3, 4]);
    assert_eq!(next(&outbox), "write [4]");
    outbox.confirm();
    assert_eq!(next(&outbox), "nothing", "not durable yet");
    outbox.durable(Epoch(1));
    assert_eq!(next(&outbox), "settled 1");
    outbox.close();
    assert_eq!(next(&outbox), "close");
}

#[test]
fn too_much_that_waits_leaves_the_memory_and_is_read_back() {
    let large = |value: i64| {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![value; (MEMORY / 8) * 2 / 3]));
        RecordBatch::try_from_iter([("value", column)]).unwrap()
    };
    for delivery in [Delivery::AtOnce, Delivery::PerEpoch] {
        let outbox = Outbox::new(delivery, true, &[]);
        for epoch in [1, 2] {
            outbox.push(large(epoch));
            outbox.seal(Some(Epoch(epoch as u64)));
            outbox.durable(Epoch(epoch as u64));
        }
        assert!(outbox.backlog().bytes <= MEMORY as u64);
        let Some(Work::Write(_) | Work::Deliver(Epoch(1), Some(_))) = outbox.next() else { panic!("{delivery:?}") };
        match delivery {
            Delivery::AtOnce => {
                assert_eq!(next(&outbox), "load 2");
                outbox.reload(Epoch(2), vec![batch(2)]);
                assert_eq!(next(&outbox), "write [2]");
            }
            Delivery::PerEpoch => assert_eq!(next(&outbox), "deliver 2 from the log"),
        }
    }
}

#[test]
fn what_is_confirmed_before_an_epoch_leaves_the_memory_is_not_written_again() {
    let outbox = Outbox::new(Delivery::AtOnce, true, &[]);
    outbox.push(batch(1));
    assert_eq!(next(&outbox), "write [1]");
    outbox.confirm();
    outbox.push(batch(2));
    assert_eq!(next(&outbox), "write [2]");
    outbox.push(batch(3));
    let large: ArrayRef = Arc::new(Int64Array::from(vec![4; MEMORY / 8 + 1]));
    outbox.push(RecordBatch::try_from_iter([("value", large)]).unwrap());
    let sealed = outbox.seal(Some(Epoch(1)));
    assert_eq!(values(&sealed[..2]), [2, 3], "the log has what is not confirmed");
    outbox.confirm();
    outbox.durable(Epoch(1));
    assert_eq!(next(&outbox), "load 1");
    outbox.reload(Epoch(1), sealed);
    assert_eq!(next(&outbox), "write [3]");
    let Some(Work::Write(rows)) = outbox.next() else { panic!("the rest is not written") };
    assert_eq!(rows.num_rows(), MEMORY / 8 + 1);
    outbox.confirm();
    assert_eq!(next(&outbox), "settled 1");
}

#[test]
fn an_epoch_that_lacks_what_is_confirmed_says_up_to_where_everything_is() {
    let outbox = Outbox::new(Delivery::AtOnce, true, &[]);
    outbox.push(batch(1));
    assert_eq!(values(&outbox.seal(Some(Epoch(7)))), [1]);
    assert_eq!(outbox.confirmed(), None);
    outbox.push(batch(2));
    for expected in ["write [1]", "write [2]"] {
        assert_eq!(next(&outbox), expected);
    }
    outbox.confirm();
    // The newer row is nowhere in the log. Were the older one given to the destination again, it would stay there.
    assert!(outbox.seal(Some(Epoch(8))).is_empty());
    assert_eq!(outbox.confirmed(), Some(Epoch(7)));
    outbox.durable(Epoch(8));
    assert_eq!(next(&outbox), "settled 7");
    assert_eq!(outbox.confirmed(), Some(Epoch(7)));
    // The marker of a sink that takes whole epochs says so itself.
    assert_eq!(Outbox::new(Delivery::PerEpoch, true, &[Epoch(3)]).confirmed(), None);
}
