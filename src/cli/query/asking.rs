//! One statement after another: planned, run and written out, until one fails, takes too long or is stopped.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use datafusion::execution::SendableRecordBatchStream;
use futures::StreamExt;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use super::answer::{Answer, AnswerError, Destination};
use crate::cli::exit::Exit;
use crate::cli::kept::{self, KeptFolder};
use crate::cli::logs;
use crate::history::{HistoryError, HistorySession, Paths};
use crate::sql::question::{Question, questions};
use crate::sql::{SourceFiles, SqlErrors};

/// So many batches may wait to be written.
const WAITING: usize = 4;

/// What is asked, and how long an answer may take.
pub struct Asking {
    /// The folder.
    pub kept: KeptFolder,
    /// How long one statement may take.
    pub timeout: Option<Duration>,
}

/// Why there is no answer.
enum Unanswered {
    History(HistoryError),
    Answer(AnswerError),
    TooLong(Duration),
    Stopped,
}

impl From<HistoryError> for Unanswered {
    fn from(error: HistoryError) -> Unanswered {
        Unanswered::History(error)
    }
}

impl From<AnswerError> for Unanswered {
    fn from(error: AnswerError) -> Unanswered {
        Unanswered::Answer(error)
    }
}

impl Asking {
    /// Answers every statement of the one file in `files`, all on the same versions of the tables.
    pub async fn all(&self, files: &SourceFiles, destination: Destination) -> Exit {
        let (questions, mistakes) = questions(files, 0);
        if !mistakes.is_empty() {
            return kept::report(&SqlErrors::new(files.clone(), mistakes).into());
        }
        if questions.is_empty() {
            eprintln!("error: there is no statement in {}", files.path(0).display());
            return Exit::Failed;
        }
        if questions.len() > 1 && destination.takes_one_answer() {
            eprintln!("error: a Parquet file holds one answer, and there are {} statements", questions.len());
            return Exit::Usage;
        }
        let session = match self.kept.history.session(Paths::Allowed).await {
            Ok(session) => session,
            Err(error) => return kept::report(&error),
        };
        let mut stop = Stop::watch();
        for question in &questions {
            match self.answer(question, files, &session, &destination, &mut stop).await {
                Exit::Success => {}
                failed => return failed,
            }
        }
        match destination.finish() {
            Ok(()) => Exit::Success,
            Err(error) => self.told(Unanswered::Answer(error)),
        }
    }

    /// Answers one statement, unless `stop` has come. What goes wrong is told on stderr.
    pub async fn answer(
        &self,
        question: &Question,
        files: &SourceFiles,
        session: &HistorySession,
        destination: &Destination,
        stop: &mut Stop,
    ) -> Exit {
        let answered = async {
            let patience = self.timeout.unwrap_or(Duration::MAX);
            let (_running, time_is_up) = deadline(patience);
            tokio::select! {
                answered = ask(question, files, session, destination) => answered,
                Ok(()) = time_is_up => Err(Unanswered::TooLong(patience)),
                () = stop.next() => Err(Unanswered::Stopped),
            }
        };
        match Box::pin(answered).await {
            Ok(()) => Exit::Success,
            Err(error) => self.told(error),
        }
    }

    fn told(&self, error: Unanswered) -> Exit {
        match error {
            Unanswered::History(error) => {
                // What is not known may be what could not be read.
                if let (HistoryError::Sql(_), Some(mistakes)) = (&error, &self.kept.mistakes) {
                    eprintln!("{}\n", mistakes.render(logs::color()).trim_end());
                }
                kept::report(&error)
            }
            // As for `head`: the reader has what it wanted.
            Unanswered::Answer(AnswerError::Closed) => Exit::Success,
            Unanswered::Answer(error) => {
                eprintln!("error: {error}");
                Exit::Runtime
            }
            Unanswered::TooLong(timeout) => {
                eprintln!(
                    "error: there was no answer in {}, and --timeout allows no more: the query was stopped",
                    humantime::format_duration(timeout)
                );
                Exit::Runtime
            }
            Unanswered::Stopped => {
                eprintln!("error: the query was stopped");
                Exit::Runtime
            }
        }
    }
}

/// Tells when `patience` is over, unless the first of the two is dropped before. By a thread of its own: the runtime
/// looks at its timers after many steps of tasks, and steps of a query may take seconds.
fn deadline(patience: Duration) -> (Sender<()>, oneshot::Receiver<()>) {
    let (running, ended) = channel();
    let (up, time_is_up) = oneshot::channel();
    std::thread::spawn(move || {
        if ended.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
            // Nobody listens any more if the answer has just come.
            let _ = up.send(());
        }
    });
    (running, time_is_up)
}

async fn ask(
    question: &Question,
    files: &SourceFiles,
    session: &HistorySession,
    destination: &Destination,
) -> Result<(), Unanswered> {
    let plan = session.plan_question(question, files).await?;
    let mut rows = session.run(plan).await?;
    let schema = rows.schema();
    let answer = destination.begin(&schema)?;
    let (batches, waiting) = tokio::sync::mpsc::channel(WAITING);
    // A pager that is not read on holds the writing up, and not the watching for Ctrl-C.
    let writing = tokio::task::spawn_blocking(move || write(answer, waiting));
    let read = forward(&mut rows, &batches).await;
    drop(batches);
    let written = writing.await.unwrap_or_else(|error| Err(AnswerError::Rows(error.to_string())));
    // Where writing failed, that is why reading ended.
    let answer = written?;
    read?;
    let ending = tokio::task::spawn_blocking(move || answer.end(&schema));
    Ok(ending.await.unwrap_or_else(|error| Err(AnswerError::Rows(error.to_string())))?)
}

async fn forward(
    rows: &mut SendableRecordBatchStream,
    batches: &tokio::sync::mpsc::Sender<arrow::array::RecordBatch>,
) -> Result<(), HistoryError> {
    while let Some(batch) = rows.next().await {
        if batches.send(batch?).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// Writes what comes until no more is wanted.
fn write(
    mut answer: Answer,
    mut waiting: tokio::sync::mpsc::Receiver<arrow::array::RecordBatch>,
) -> Result<Answer, AnswerError> {
    while let Some(batch) = waiting.blocking_recv() {
        if !answer.write(&batch)? {
            break;
        }
    }
    Ok(answer)
}

/// Ctrl-C and SIGTERM, from the time on at which they are watched. By a thread and a runtime of their own, as for
/// [`deadline`]: the runtime in which queries run hears of signals between their steps.
pub struct Stop {
    came: mpsc::UnboundedReceiver<()>,
    /// Dropped, it ends the thread.
    _watching: oneshot::Sender<()>,
}

impl Stop {
    /// Begins to watch.
    pub fn watch() -> Stop {
        let (comes, came) = mpsc::unbounded_channel();
        let (_watching, enough) = oneshot::channel();
        let (ready, is_ready) = channel::<()>();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
            let Ok(runtime) = runtime else { return };
            runtime.block_on(async {
                let [mut interrupt, mut terminate] = [SignalKind::interrupt(), SignalKind::terminate()].map(signal);
                drop(ready);
                let told = async {
                    loop {
                        tokio::select! {
                            () = received(&mut interrupt) => {}
                            () = received(&mut terminate) => {}
                        }
                        if comes.send(()).is_err() {
                            return;
                        }
                    }
                };
                tokio::select! {
                    () = told => {}
                    _ = enough => {}
                }
            });
        });
        // Until then a signal would end the process, without a word.
        let _ = is_ready.recv();
        Stop { came, _watching }
    }

    async fn next(&mut self) {
        if self.came.recv().await.is_none() {
            std::future::pending().await
        }
    }
}

/// Returns at a signal; never where signals cannot be watched.
async fn received(signal: &mut std::io::Result<Signal>) {
    let came = match signal {
        Ok(signal) => signal.recv().await,
        Err(_) => None,
    };
    if came.is_none() {
        std::future::pending().await
    }
}
