//! A connection that knows whether it may write, and whether the server still has what was written.
//!
//! With a [`Fence`], every write is a script that first looks at the table's fence key. Without one, commands go in a
//! plain pipeline. Either way a server that is another one after a reconnect (a restart, a failover) is noticed.

use redis::Pipeline;
use redis::aio::MultiplexedConnection;

use super::commands::Command;
use super::scripts::{self, each_call};
use super::server::{Server, code_error};
use crate::connectors::ConnectorError;
use crate::connectors::delivery::{Marker, Writer};
use crate::faults::crash_point;
use crate::time::{Epoch, Incarnation, LogId};

/// Who may write a table.
pub(super) struct Fence {
    key: String,
    writer: Writer,
    /// Rows of other checkpoints are replaced and not added to, so that they are no obstacle.
    replaces: bool,
}

impl Fence {
    /// The fence of a table of the writer's pipeline.
    pub(super) fn new(writer: Writer, table: &str, replaces: bool) -> Fence {
        Fence { key: format!("acequia:{}:{table}:writer", writer.pipeline), writer, replaces }
    }
}

/// Where an epoch of a stream stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    /// The epoch.
    pub(super) epoch: Epoch,
    /// The last epoch that is known to be there.
    pub(super) settled: Epoch,
    /// The number of the first entry, in the epoch.
    pub(super) first: usize,
    /// The epoch ends with these entries.
    pub(super) ends: bool,
}

/// What became of a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Written {
    /// It is there.
    Done,
    /// The epoch was there.
    Before,
    /// So many entries of the epoch are there: not those that the caller thought.
    Partly(usize),
    /// The stream has less than was known to be there.
    Behind(Epoch),
}

/// A connection to a server, made again when it is lost.
pub(super) struct Session {
    server: Server,
    fence: Option<Fence>,
    link: Option<Link>,
    /// Which server it was: its run and its replication history. `None` before the first connection.
    identity: Option<Option<String>>,
    /// What was written before may be gone: the caller writes it again and takes this back.
    pub(super) lost: bool,
}

struct Link {
    connection: MultiplexedConnection,
    session: String,
}

impl Session {
    /// Not yet connected.
    pub(super) fn new(server: Server, fence: Option<Fence>) -> Session {
        Session { server, fence, link: None, identity: None, lost: false }
    }

    /// Connects if it is not; fences. What the fence key then says about a stream, when it was just read: the last
    /// epoch that is there, 0 for none.
    pub(super) async fn ready(&mut self) -> Result<Option<Epoch>, ConnectorError> {
        if self.link.is_some() {
            return Ok(None);
        }
        let mut connection = self.server.connect().await?;
        let identity = self.server.identity(&mut connection).await?;
        let first = self.identity.is_none();
        // A server that does not say who it is may be another one each time.
        let mut lost = !first && (identity.is_none() || self.identity.as_ref() != Some(&identity));
        let (session, found) = match &self.fence {
            None => (String::new(), Epoch(0)),
            Some(fence) => {
                let claimed = self.claim(fence, &mut connection, first).await?;
                lost |= !first && claimed.run != fence.writer.incarnation;
                if claimed.anew {
                    let mut forget = redis::cmd("HDEL");
                    let forget = forget.arg(&fence.key).arg(&["epoch", "by", "part", "done"]);
                    forget.exec_async(&mut connection).await.map_err(|error| self.server.error(&error))?;
                }
                (claimed.session, claimed.epoch)
            }
        };
        crash_point!("sink.redis.after_fence");
        self.lost |= lost;
        self.identity = Some(identity);
        self.link = Some(Link { connection, session });
        Ok(Some(found))
    }

    async fn claim(
        &self,
        fence: &Fence,
        connection: &mut MultiplexedConnection,
        first: bool,
    ) -> Result<Claimed, ConnectorError> {
        let writer = &fence.writer;
        // Only once: who comes later with other checkpoints has taken over from us.
        let replaces = first && (fence.replaces || writer.fresh);
        let mut call = scripts::claim().call(&fence.key);
        call.arg(&writer.log.0).arg(writer.incarnation.0).arg(if replaces { "1" } else { "0" });
        let answer = scripts::claim().run(&call, connection).await;
        self.claimed(fence, &answer.map_err(|error| self.server.error(&error))?, first)
    }

    fn claimed(&self, fence: &Fence, answer: &[String], first: bool) -> Result<Claimed, ConnectorError> {
        let (what, writer) = (&self.server.what, &fence.writer);
        let [outcome, log, run, epoch, by, session] = answer else { return Err(self.unreadable(answer)) };
        let number = |text: &str| text.parse().unwrap_or_default();
        let marker =
            Marker { log: LogId(log.clone()), incarnation: Incarnation(number(run)), epoch: Epoch(number(epoch)) };
        match outcome.as_str() {
            "none" => {
                if first && writer.resumed > Epoch(0) {
                    let follows = if fence.replaces {
                        "keys that this run does not write again stay away until their values change"
                    } else {
                        "what an earlier run has added may be gone, or come twice"
                    };
                    tracing::warn!(
                        "{what}: the key {} is gone, so the server has lost its data, or is another one: {follows}",
                        fence.key
                    );
                }
                Ok(Claimed { run: Incarnation(0), epoch: Epoch(0), anew: false, session: session.clone() })
            }
            "found" if fence.replaces => {
                Ok(Claimed { run: marker.incarnation, epoch: Epoch(0), anew: false, session: session.clone() })
            }
            "found" if marker.log != writer.log => {
                Ok(Claimed { run: marker.incarnation, epoch: Epoch(0), anew: false, session: session.clone() })
            }
            "found" => {
                // Not who holds the fence: that may be this run already, if the answer to its first attempt was lost.
                let wrote = Marker { incarnation: Incarnation(number(by)), ..marker.clone() };
                let resumed = writer.resume(what, Some(&wrote))?;
                let (epoch, anew) = (resumed.unwrap_or_default(), resumed.is_none());
                Ok(Claimed { run: marker.incarnation, epoch, anew, session: session.clone() })
            }
            "other" if !first => Err(writer.fenced(what, &marker)),
            _ => match writer.resume(what, Some(&marker)) {
                Err(error) => Err(error),
                Ok(_) => Err(writer.fenced(what, &marker)),
            },
        }
    }

    /// Writes some commands, in one step. Must be [`Session::ready`].
    pub(super) async fn write(
        &mut self,
        commands: &[Command],
        progress: Option<Progress>,
    ) -> Result<Written, ConnectorError> {
        // Whatever goes wrong, the next attempt connects again.
        let Some(mut link) = self.link.take() else { return Err(self.away("there is no connection")) };
        crash_point!("sink.redis.before_write");
        let written = match &self.fence {
            None => self.plainly(commands, &mut link).await?,
            Some(fence) => {
                let answer = self.behind(fence, commands, progress, &mut link).await?;
                self.judged(fence, &answer)?
            }
        };
        crash_point!("sink.redis.after_write");
        self.link = Some(link);
        Ok(written)
    }

    async fn plainly(&self, commands: &[Command], link: &mut Link) -> Result<Written, ConnectorError> {
        let mut pipeline = Pipeline::with_capacity(commands.len());
        if commands.is_empty() {
            pipeline.cmd("PING").ignore();
        }
        for command in commands {
            each_call(command, &mut |words| {
                let [name, rest @ ..] = words else { return };
                pipeline.cmd(&String::from_utf8_lossy(name));
                for word in rest {
                    pipeline.arg(*word);
                }
                pipeline.ignore();
            });
        }
        let done = pipeline.exec_async(&mut link.connection).await;
        done.map_err(|error| self.server.error(&error))?;
        Ok(Written::Done)
    }

    async fn behind(
        &self,
        fence: &Fence,
        commands: &[Command],
        progress: Option<Progress>,
        link: &mut Link,
    ) -> Result<Vec<String>, ConnectorError> {
        let mut call = scripts::write().call(&fence.key);
        call.arg(&fence.writer.log.0).arg(fence.writer.incarnation.0).arg(&link.session);
        match progress {
            None => call.arg("").arg("").arg("0").arg(""),
            Some(Progress { epoch, settled, first, ends }) => {
                call.arg(epoch.0).arg(settled.0).arg(first).arg(if ends { "1" } else { "0" })
            }
        };
        for command in commands {
            each_call(command, &mut |words| {
                call.arg(words.len());
                for word in words {
                    call.arg(*word);
                }
            });
        }
        scripts::write().run(&call, &mut link.connection).await.map_err(|error| self.server.error(&error))
    }

    fn judged(&self, fence: &Fence, answer: &[String]) -> Result<Written, ConnectorError> {
        let what = &self.server.what;
        let words: Vec<&str> = answer.iter().map(String::as_str).collect();
        let number = |text: &str| text.parse().unwrap_or_default();
        match words[..] {
            ["ok"] => Ok(Written::Done),
            ["there"] => Ok(Written::Before),
            ["done", done] => Ok(Written::Partly(number(done) as usize)),
            ["behind", epoch] => Ok(Written::Behind(Epoch(number(epoch)))),
            ["gone"] => Err(self.away(&format!("its key {} is gone or older: it has lost data", fence.key))),
            ["stale"] => Err(self.away("a newer connection has taken the place of this one")),
            ["error", message] => Err(code_error(what, message)),
            ["fenced", log, run, epoch] => {
                let incarnation = Incarnation(number(run));
                let found = Marker { log: LogId(log.into()), incarnation, epoch: Epoch(number(epoch)) };
                Err(fence.writer.fenced(what, &found))
            }
            _ => Err(self.unreadable(answer)),
        }
    }

    fn away(&self, message: &str) -> ConnectorError {
        ConnectorError::Unavailable { what: self.server.what.clone(), message: message.into() }
    }

    fn unreadable(&self, answer: &[String]) -> ConnectorError {
        let message = format!("a script has answered {answer:?}: does something other than Redis answer there?");
        ConnectorError::Refused { what: self.server.what.clone(), message }
    }
}

/// What a fence key said when it was taken over.
struct Claimed {
    /// The run before, maybe this one; 0 when there was none.
    run: Incarnation,
    /// The last epoch of this log that is there.
    epoch: Epoch,
    /// A later epoch is there, and is to be forgotten.
    anew: bool,
    /// The name of this connection.
    session: String,
}
