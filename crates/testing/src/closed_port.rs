//! A port of loopback where nobody listens, and nobody can begin to while it is held.

use std::net::{TcpListener, TcpStream};

/// A local port that is bound by an outgoing connection: nobody can listen on it, and connecting to it is refused. The listener at the other end is
/// held only so that the connection stays open.
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
