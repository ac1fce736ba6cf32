//! Ports that a server can come back to: below those that the system gives to connections, so that none of these takes
//! one while its server is away.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

/// The first of so many ports, one after the other, that nobody listens on.
pub fn free_ports(count: u16) -> u16 {
    const FIRST: u32 = 10_000;
    const ROOM: u32 = 20_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    for _ in 0..ROOM {
        // Processes at the same time begin far from one another, and so do the modules of one that hold this file: a
        // port is free until its server, which has yet to start, has taken it.
        let place = std::process::id().wrapping_mul(31).wrapping_add(module_path!().len() as u32).wrapping_mul(7919);
        let step = NEXT.fetch_add(u32::from(count), Ordering::Relaxed);
        let first = (FIRST + place.wrapping_add(step) % ROOM) as u16;
        let ports: Vec<_> = (first..first + count).map(|port| TcpListener::bind(("127.0.0.1", port))).collect();
        if ports.iter().all(Result::is_ok) {
            return first;
        }
    }
    panic!("no {count} free ports from {FIRST} on");
}
