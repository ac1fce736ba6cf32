//! A TCP proxy between a client and a server, with the faults of a network at a test's command.
#![allow(dead_code, reason = "no test target uses all of it")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Where bytes go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    ToServer,
    ToClient,
}

/// Forwards connections from a port of its own to a server. It runs in a thread of its own, so that tests without a
/// runtime and tests that block theirs can use it.
pub struct Proxy {
    pub port: u16,
    rules: Arc<watch::Sender<Rules>>,
    shared: Arc<Shared>,
    end: CancellationToken,
}

#[derive(Clone, Default)]
struct Rules {
    to_server_stalls: bool,
    to_client_stalls: bool,
    delay: Duration,
}

#[derive(Default)]
struct Shared {
    cut: Mutex<CancellationToken>,
    trap: Mutex<Option<Trap>>,
    refusing: AtomicBool,
    connections: AtomicU64,
    to_server: AtomicU64,
    to_client: AtomicU64,
    sprung: AtomicU64,
}

/// What happens the first time that a client sends certain bytes.
struct Trap {
    needle: Vec<u8>,
    kind: TrapKind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum TrapKind {
    CutBefore,
    SwallowAnswer,
    StallAfter,
}

impl Proxy {
    /// Forwards to `server`, such as `127.0.0.1:5432`, which need not be up yet.
    pub fn to(server: &str) -> Proxy {
        let server: SocketAddr = server.parse().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (rules, shared, end) =
            (Arc::new(watch::Sender::default()), Arc::<Shared>::default(), CancellationToken::new());
        let forwarding = (rules.clone(), shared.clone(), end.clone());
        std::thread::spawn(move || {
            let (rules, shared, end) = forwarding;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).unwrap();
                tokio::select! {
                    () = accept(&listener, server, &rules, &shared) => {}
                    () = end.cancelled() => {}
                }
            });
        });
        Proxy { port, rules, shared, end }
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Closes all connections that there are. New ones are forwarded.
    pub fn cut(&self) {
        std::mem::take(&mut *self.shared.cut.lock()).cancel();
    }

    /// Closes all connections, and new ones at once, until [`Proxy::resume`].
    pub fn refuse(&self) {
        self.shared.refusing.store(true, Ordering::SeqCst);
        self.cut();
    }

    /// Forwards nothing any more and keeps all connections open, as a network does that drops every packet.
    pub fn stall(&self) {
        self.stall_one(Way::ToServer);
        self.stall_one(Way::ToClient);
    }

    /// Forwards nothing any more in one direction.
    pub fn stall_one(&self, way: Way) {
        self.rules.send_modify(|rules| match way {
            Way::ToServer => rules.to_server_stalls = true,
            Way::ToClient => rules.to_client_stalls = true,
        });
    }

    /// Forwards again, what was held back first.
    pub fn resume(&self) {
        self.shared.refusing.store(false, Ordering::SeqCst);
        self.rules.send_modify(|rules| (rules.to_server_stalls, rules.to_client_stalls) = (false, false));
    }

    /// Holds every piece back for so long, in both directions.
    pub fn delay(&self, delay: Duration) {
        self.rules.send_modify(|rules| rules.delay = delay);
    }

    /// The next time that a client sends `needle`, cuts its connection before the server sees it.
    pub fn cut_before(&self, needle: &str) {
        self.set_trap(needle, TrapKind::CutBefore);
    }

    /// The next time that a client sends `needle`, lets it through, waits for the answer, and cuts the connection
    /// without it: the server has done what the client will never know.
    pub fn swallow_answer(&self, needle: &str) {
        self.set_trap(needle, TrapKind::SwallowAnswer);
    }

    /// The next time that a client sends `needle`, lets it through and stalls in both directions.
    pub fn stall_after(&self, needle: &str) {
        self.set_trap(needle, TrapKind::StallAfter);
    }

    /// How many of the traps above have done their work.
    pub fn sprung(&self) -> u64 {
        self.shared.sprung.load(Ordering::SeqCst)
    }

    /// How many connections have been made so far.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// How many bytes have been forwarded so far.
    pub fn passed(&self, way: Way) -> u64 {
        self.shared.passed(way).load(Ordering::SeqCst)
    }

    fn set_trap(&self, needle: &str, kind: TrapKind) {
        *self.shared.trap.lock() = Some(Trap { needle: needle.into(), kind });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

impl Shared {
    fn passed(&self, way: Way) -> &AtomicU64 {
        match way {
            Way::ToServer => &self.to_server,
            Way::ToClient => &self.to_client,
        }
    }

    /// The trap that `sent`, the latest of what a client sent, springs; it is gone then. Its first `old` bytes were
    /// there before the trap, perhaps, and spring nothing by themselves.
    fn spring(&self, sent: &[u8], old: usize) -> Option<TrapKind> {
        let mut trap = self.trap.lock();
        let holds = |trap: &&Trap| {
            let length = trap.needle.len();
            sent[old.saturating_sub(length - 1)..].windows(length).any(|window| window == trap.needle)
        };
        let kind = trap.as_ref().filter(holds)?.kind;
        *trap = None;
        Some(kind)
    }
}

async fn accept(listener: &TcpListener, server: SocketAddr, rules: &Arc<watch::Sender<Rules>>, shared: &Arc<Shared>) {
    loop {
        let (client, _) = listener.accept().await.unwrap();
        if shared.refusing.load(Ordering::SeqCst) {
            continue;
        }
        shared.connections.fetch_add(1, Ordering::SeqCst);
        // A child of its own: one connection's end is not the others'.
        let cut = shared.cut.lock().child_token();
        tokio::spawn(forward(client, server, rules.clone(), shared.clone(), cut));
    }
}

async fn forward(
    client: TcpStream,
    server: SocketAddr,
    rules: Arc<watch::Sender<Rules>>,
    shared: Arc<Shared>,
    cut: CancellationToken,
) {
    // A connection to a network that drops every packet is not answered either.
    let _ = rules.subscribe().wait_for(|rules| !rules.to_server_stalls).await;
    let Ok(server) = TcpStream::connect(server).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let link = Link { rules, shared, cut: cut.clone(), swallowing: AtomicBool::new(false) };
    tokio::select! {
        biased;
        () = cut.cancelled() => {}
        _ = async {
            tokio::join!(
                link.pump(Way::ToServer, from_client, to_server),
                link.pump(Way::ToClient, from_server, to_client),
            )
        } => {}
    }
}

struct Link {
    rules: Arc<watch::Sender<Rules>>,
    shared: Arc<Shared>,
    cut: CancellationToken,
    swallowing: AtomicBool,
}

impl Link {
    async fn pump(&self, way: Way, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let mut rules = self.rules.subscribe();
        let mut buffer = vec![0; 16 << 10];
        // The end of what went before, should a needle lie across two pieces.
        let mut recent: Vec<u8> = vec![];
        loop {
            let count = from.read(&mut buffer).await.unwrap_or(0);
            let stalls = |rules: &Rules| match way {
                Way::ToServer => rules.to_server_stalls,
                Way::ToClient => rules.to_client_stalls,
            };
            let delay = match rules.wait_for(|rules| !stalls(rules)).await {
                Ok(rules) => rules.delay,
                Err(_) => return,
            };
            if delay > Duration::ZERO {
                tokio::time::sleep(delay).await;
            }
            if count == 0 {
                let _ = to.shutdown().await;
                return;
            }
            let piece = &buffer[..count];
            let mut sprung = None;
            if way == Way::ToServer {
                let old = recent.len();
                recent.extend(piece);
                sprung = self.shared.spring(&recent, old);
                recent.drain(..recent.len().saturating_sub(64));
            }
            if self.swallowing.load(Ordering::SeqCst) && way == Way::ToClient || sprung == Some(TrapKind::CutBefore) {
                self.shared.sprung.fetch_add(1, Ordering::SeqCst);
                self.cut.cancel();
                return;
            }
            if sprung == Some(TrapKind::SwallowAnswer) {
                self.swallowing.store(true, Ordering::SeqCst);
            }
            if to.write_all(piece).await.is_err() {
                return;
            }
            self.shared.passed(way).fetch_add(count as u64, Ordering::SeqCst);
            if sprung == Some(TrapKind::StallAfter) {
                self.shared.sprung.fetch_add(1, Ordering::SeqCst);
                self.rules.send_modify(|rules| (rules.to_server_stalls, rules.to_client_stalls) = (true, true));
            }
        }
    }
}
