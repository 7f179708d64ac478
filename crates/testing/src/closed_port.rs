//! A port on loopback on which no process listens, and none can begin to listen while the value exists.

use std::net::{TcpListener, TcpStream};

/// The local port of an outgoing connection: no process can listen on it, and connecting to it is refused. The listener at the other end
/// only keeps the connection open.
pub struct ClosedPort {
    pub port: u16,
    _ends: (TcpListener, TcpStream),
}

impl Default for ClosedPort {
    fn default() -> ClosedPort {
        ClosedPort::new()
    }
}

impl ClosedPort {
    pub fn new() -> ClosedPort {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        ClosedPort { port: stream.local_addr().unwrap().port(), _ends: (listener, stream) }
    }
}
