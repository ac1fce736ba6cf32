//! Where questions for live tables are asked, and where the run finds them.
//!
//! [`Board`] is the askers' side and outlives a run; [`Desk`] is the run's side and ends with it. All questions that
//! wait when an epoch begins for them are answered at its end, so many askers cost as much as one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, oneshot};

use super::answer::Answer;
use super::look::{Look, Trouble, leading_to};
use super::{LiveError, LiveKind, LiveRows, LiveTable, Since};
use crate::checkpoint::log::OutboxReader;
use crate::connectors::SinkMode;
use crate::dataflow::graph::{Graph, NodeId, NodeKind};
use crate::dataflow::outbox::Outbox;
use crate::dataflow::read_back::nullable;
use crate::time::{Epoch, LogId};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Looks begin so far apart at least: whoever asks in between shares the next one, so that asking without end cannot end
/// an epoch after the other.
pub const LOOKS_APART: Duration = Duration::from_millis(50);

/// So many answers are read from checkpoints at a time.
const READERS: usize = 4;

/// What a pipeline waits for before its first task runs.
const BEGINNING: &str = "its checkpoints to be read and its destinations to be reached";

/// The tables of a graph, and the questions about them.
pub struct Board {
    tables: Vec<Table>,
    state: Mutex<State>,
    asked: Notify,
    readers: Semaphore,
}

/// A table with what its answer is put together from.
struct Table {
    table: LiveTable,
    sink: NodeId,
    /// By what the run knows the sink.
    identity: String,
    /// All nodes that lead to it.
    nodes: BTreeSet<NodeId>,
}

struct State {
    ended: bool,
    waiting: Vec<Question>,
    under_way: Option<(Arc<Look>, Vec<Question>)>,
    waits_for: String,
}

struct Question {
    /// Index of the table.
    table: usize,
    answer: oneshot::Sender<Result<Answer, LiveError>>,
}

impl Board {
    /// Of what `graph` writes.
    pub fn new(graph: &Graph) -> Board {
        let sinks = graph.nodes.iter().enumerate().filter_map(|(index, node)| {
            let NodeKind::Sink(sink) = &node.kind else { return None };
            let (kind, columns) = match sink.factory.mode() {
                SinkMode::Append => (LiveKind::Added, Arc::clone(&sink.schema)),
                // What others have done to the destination is not known.
                SinkMode::Upsert(_) => (LiveKind::Newest, nullable(&sink.schema)),
            };
            let table = LiveTable { name: sink.table.clone(), columns, kind };
            let nodes = leading_to(graph, NodeId(index));
            Some(Table { table, sink: NodeId(index), identity: node.identity().to_owned(), nodes })
        });
        let state = State { ended: false, waiting: vec![], under_way: None, waits_for: BEGINNING.into() };
        Board {
            tables: sinks.collect(),
            state: Mutex::new(state),
            asked: Notify::new(),
            readers: Semaphore::new(READERS),
        }
    }

    /// The tables that can be asked for.
    pub fn tables(&self) -> impl Iterator<Item = &LiveTable> {
        self.tables.iter().map(|table| &table.table)
    }

    /// The table of that name.
    ///
    /// # Errors
    /// [`LiveError::Unknown`].
    pub fn table(&self, name: &str) -> Result<&LiveTable, LiveError> {
        Ok(&self.tables[self.index(name)?].table)
    }

    fn index(&self, name: &str) -> Result<usize, LiveError> {
        let found = self.tables.iter().position(|table| table.table.name == name);
        found.ok_or_else(|| LiveError::Unknown {
            table: name.to_owned(),
            known: self.tables().map(|table| table.name.clone()).collect(),
        })
    }

    /// The rows that `name` does not have in its destination, as of an epoch that begins to end after this is called.
    ///
    /// # Errors
    /// When the run does not get there in time, or cannot say.
    pub async fn rows(&self, name: &str, since: &Since) -> Result<LiveRows, LiveError> {
        let table = self.index(name)?;
        let (answer, answered) = oneshot::channel();
        {
            let mut state = self.state.lock();
            if state.ended {
                return Err(LiveError::Ended { table: name.to_owned() });
            }
            state.waiting.push(Question { table, answer });
        }
        self.asked.notify_one();
        let rows = async {
            match answered.await {
                Ok(answer) => {
                    let answer = answer?;
                    // It is never closed.
                    let _turn = self.readers.acquire().await;
                    answer.rows(since).await
                }
                Err(_) => Err(LiveError::Ended { table: name.to_owned() }),
            }
        };
        tokio::time::timeout(PATIENCE, rows).await.unwrap_or_else(|_| {
            let waits_for = self.state.lock().waits_for.clone();
            Err(LiveError::Waits { table: name.to_owned(), seconds: PATIENCE.as_secs(), waits_for })
        })
    }
}

/// The run's side of a [`Board`]. When it is dropped, whoever waits is told that the run is over.
pub struct Desk {
    board: Arc<Board>,
    log: Option<(LogId, OutboxReader)>,
}

impl Desk {
    /// For a run that keeps its epochs in `log`, if it keeps them.
    pub fn new(board: Arc<Board>, log: Option<(LogId, OutboxReader)>) -> Desk {
        Desk { board, log }
    }

    /// Returns when somebody has asked; never where nobody can.
    pub async fn asked(desk: Option<&Desk>) {
        match desk {
            Some(desk) => desk.board.asked.notified().await,
            None => std::future::pending().await,
        }
    }

    /// Whether somebody waits for an answer.
    pub fn is_asked(&self) -> bool {
        let mut state = self.board.state.lock();
        state.waiting.retain(|question| !question.answer.is_closed());
        !state.waiting.is_empty() || state.under_way.is_some()
    }

    /// What the run waits for, should it take too long.
    pub fn waits_for(&self, what: String) {
        self.board.state.lock().waits_for = what;
    }

    /// The look for all questions that can be answered; `None` if none can, because it is not known yet what a
    /// destination has. The next epoch that completes answers them.
    pub fn begin(&self, outboxes: &BTreeMap<String, Arc<Outbox>>) -> Option<Arc<Look>> {
        let mut state = self.board.state.lock();
        let table = |question: &Question| &self.board.tables[question.table];
        let opened = |question: &Question| {
            outboxes.get(&table(question).identity).is_none_or(|outbox| outbox.knows_destination())
        };
        let (questions, waiting): (Vec<_>, Vec<_>) = std::mem::take(&mut state.waiting).into_iter().partition(opened);
        if let Some(question) = waiting.first() {
            state.waits_for = format!("the destination of {} to be reached", table(question).table.name);
        }
        state.waiting = waiting;
        if questions.is_empty() {
            return None;
        }
        let nodes = questions.iter().flat_map(|question| table(question).nodes.iter().copied());
        let look = Arc::new(Look::new(nodes.collect()));
        state.under_way = Some((Arc::clone(&look), questions));
        Some(look)
    }

    /// An epoch is complete: the look that went with its barrier, if one did, is answered.
    pub fn complete(&self, epoch: Epoch, outboxes: &BTreeMap<String, Arc<Outbox>>) {
        let Some((look, questions)) = self.board.state.lock().under_way.take() else { return };
        for Question { table, answer } in questions {
            // Whoever asked may have given up.
            let _ = answer.send(self.answer(&self.board.tables[table], epoch, &look, outboxes));
        }
    }

    fn answer(
        &self,
        table: &Table,
        epoch: Epoch,
        look: &Look,
        outboxes: &BTreeMap<String, Arc<Outbox>>,
    ) -> Result<Answer, LiveError> {
        let name = || table.table.name.clone();
        let open = look.found(table.sink, &table.nodes).map_err(|trouble| match trouble {
            Trouble::Failed { node, message } => LiveError::Failed { table: name(), node, message },
            Trouble::TooMuch => LiveError::TooMuch { table: name() },
        })?;
        let outbox = outboxes.get(&table.identity).ok_or_else(|| LiveError::Ended { table: name() })?;
        let unsettled = outbox.unsettled(epoch);
        let (table, sink) = (table.table.clone(), table.identity.clone());
        Ok(Answer { table, sink, epoch, log: self.log.clone(), unsettled, open })
    }

    /// No epoch will end for those who wait.
    pub fn refuse(&self) {
        let mut state = self.board.state.lock();
        // Who waits hears of it when the question is dropped.
        state.under_way = None;
        state.waiting.clear();
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.board.state.lock().ended = true;
        self.refuse();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::delivery::Delivery;
    use crate::dataflow::tests::parts::{Builder, MemorySink, MemorySource};

    #[tokio::test(start_paused = true)]
    async fn a_question_waits_until_it_is_known_what_the_destination_has() {
        let mut builder = Builder::default();
        let read = builder.source("t", &Arc::new(MemorySource::new(vec![])));
        builder.sink("out", read, 0, &MemorySink::default());
        let board = Arc::new(Board::new(&builder.graph));
        let desk = Desk::new(Arc::clone(&board), None);
        let outbox = Arc::new(Outbox::new(Delivery::PerEpoch, true, &[]));
        let outboxes = BTreeMap::from([("out".to_owned(), Arc::clone(&outbox))]);
        let (told, ()) = tokio::join!(board.rows("out", &Since::Destination), async {
            Desk::asked(Some(&desk)).await;
            assert!(desk.is_asked() && desk.begin(&outboxes).is_none());
        });
        assert_eq!(
            told.unwrap_err().to_string(),
            "live.out got no answer in 10 s: the pipeline waits for the destination of out to be reached"
        );
        assert!(!desk.is_asked(), "who has given up is forgotten");
        let (rows, ()) = tokio::join!(board.rows("out", &Since::Destination), async {
            Desk::asked(Some(&desk)).await;
            outbox.lacks(vec![]);
            assert!(desk.begin(&outboxes).unwrap().concerns(read));
            desk.complete(Epoch(4), &outboxes);
        });
        let rows = rows.unwrap();
        assert_eq!((rows.epoch, rows.batches.len()), (Some(Epoch(4)), 0));
    }
}
