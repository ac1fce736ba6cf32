//! The proxy itself: a fault that does not happen would make every test with it pass.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::proxy::{Proxy, Way};

/// A server that sends back what it gets; gives its address.
fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || std::io::copy(&mut stream.try_clone().unwrap(), &mut &stream));
        }
    });
    address
}

fn client(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    stream
}

/// What came back within 300 ms: `None` for nothing, empty when the connection is closed.
fn answer(stream: &mut TcpStream, said: &str) -> Option<String> {
    let _ = stream.write_all(said.as_bytes());
    let mut buffer = [0; 64];
    match stream.read(&mut buffer) {
        Ok(count) => Some(String::from_utf8_lossy(&buffer[..count]).into_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => None,
        Err(_) => Some(String::new()),
    }
}

#[test]
fn it_stalls_delays_cuts_and_resumes() {
    let proxy = Proxy::to(&echo());
    let mut stream = client(&proxy);
    assert_eq!(answer(&mut stream, "one").as_deref(), Some("one"));
    proxy.stall();
    assert_eq!(answer(&mut stream, "two"), None);
    proxy.resume();
    assert_eq!(answer(&mut stream, "").as_deref(), Some("two"));
    proxy.stall_one(Way::ToClient);
    assert_eq!(answer(&mut stream, "three"), None);
    assert_eq!(proxy.passed(Way::ToServer), 11);
    assert_eq!(proxy.passed(Way::ToClient), 6);
    proxy.resume();
    assert_eq!(answer(&mut stream, "").as_deref(), Some("three"));
    proxy.delay(Duration::from_millis(60));
    let began = Instant::now();
    assert_eq!(answer(&mut stream, "four").as_deref(), Some("four"));
    assert!(began.elapsed() >= Duration::from_millis(120));
    proxy.cut();
    assert_eq!(answer(&mut stream, "five").as_deref(), Some(""));
    assert_eq!(answer(&mut client(&proxy), "six").as_deref(), Some("six"));
    proxy.refuse();
    assert_eq!(answer(&mut client(&proxy), "seven").as_deref(), Some(""));
    assert_eq!(proxy.connections(), 2);
}

#[test]
fn it_springs_traps_once() {
    let proxy = Proxy::to(&echo());
    proxy.cut_before("COMMIT");
    assert_eq!(answer(&mut client(&proxy), "a COMMIT").as_deref(), Some(""));
    assert_eq!(proxy.passed(Way::ToServer), 0);
    proxy.swallow_answer("COMMIT");
    assert_eq!(answer(&mut client(&proxy), "a COMMIT").as_deref(), Some(""));
    assert_eq!((proxy.passed(Way::ToServer), proxy.passed(Way::ToClient)), (8, 0));
    proxy.stall_after("COMMIT");
    let mut stream = client(&proxy);
    assert_eq!(answer(&mut stream, "a COMMIT"), None);
    assert_eq!(proxy.sprung(), 3);
    proxy.resume();
    assert_eq!(answer(&mut stream, "").as_deref(), Some("a COMMIT"));
    assert_eq!(answer(&mut stream, "a COMMIT").as_deref(), Some("a COMMIT"));
}
