//! The way through a proxy: CONNECT and its answer, before anything else goes over the connection. No socket.
//!
//! # Limits
//!
//! An answer's head of 16 KiB. It is read byte by byte, since what follows it is the server's: a few dozen bytes, once for
//! a connection.
//!
//! # Specification
//!
//! RFC 9110, section 9.3.6 (CONNECT).

use std::io::{self, ErrorKind, Read, Write};

use crate::otlp_http::Url;

/// More than any proxy has to say.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// A way that is being asked for.
pub(super) struct Tunnel {
    request: Vec<u8>,
    written: usize,
    head: Vec<u8>,
}

impl Tunnel {
    /// To `authority`, host and port.
    pub(super) fn new(proxy: &Url, authority: &str) -> Tunnel {
        let authorization = proxy.basic().map_or_else(String::new, |basic| format!("Proxy-Authorization: {basic}\r\n"));
        let request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{authorization}\r\n");
        Tunnel { request: request.into_bytes(), written: 0, head: Vec::new() }
    }

    /// Goes on as far as can be done now; true when the way is open.
    ///
    /// # Errors
    ///
    /// Where the connection fails, or the proxy gives no way.
    pub(super) fn advance(&mut self, stream: &mut (impl Read + Write)) -> io::Result<bool> {
        while self.written < self.request.len() {
            match stream.write(&self.request[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        while !self.head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            match stream.read(&mut byte) {
                Ok(0) => return Err(io::Error::other("the proxy closed the connection")),
                Ok(_) if self.head.len() < HEAD_BYTES_MAX => self.head.push(byte[0]),
                Ok(_) => return Err(io::Error::other("the answer of the proxy is too large")),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut answer = httparse::Response::new(&mut headers);
        match (answer.parse(&self.head), answer.code) {
            (Ok(_), Some(200..300)) => Ok(true),
            (Ok(_), Some(status)) => Err(io::Error::other(format!("the proxy answered {status}"))),
            _ => Err(io::Error::other("the answer of the proxy is not HTTP")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes and gives one byte in every second call, and "not now" in the others.
    #[derive(Default)]
    struct Slow {
        written: Vec<u8>,
        answer: Vec<u8>,
        read: usize,
        turn: bool,
    }

    impl Slow {
        fn turn(&mut self) -> io::Result<()> {
            self.turn = !self.turn;
            if self.turn { Err(ErrorKind::WouldBlock.into()) } else { Ok(()) }
        }
    }

    impl Read for Slow {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.turn()?;
            let rest = &self.answer[self.read..];
            let count = rest.len().min(buffer.len());
            buffer[..count].copy_from_slice(&rest[..count]);
            self.read += count;
            Ok(count)
        }
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.turn()?;
            self.written.push(bytes[0]);
            Ok(1)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn through(proxy: &str, answer: &[u8]) -> (Result<(), String>, Slow) {
        let mut stream = Slow { answer: answer.to_vec(), ..Slow::default() };
        let mut tunnel = Tunnel::new(&Url::parse(proxy).unwrap(), "h:4317");
        loop {
            match tunnel.advance(&mut stream) {
                Ok(true) => return (Ok(()), stream),
                Ok(false) => {}
                Err(error) => return (Err(error.to_string()), stream),
            }
        }
    }

    #[test]
    fn the_way_is_asked_for_and_what_follows_the_answer_is_left() {
        let (result, stream) = through("http://p:3128", b"HTTP/1.1 200 Connection established\r\nA: b\r\n\r\nSETTINGS");
        assert_eq!(result, Ok(()));
        assert_eq!(stream.written, b"CONNECT h:4317 HTTP/1.1\r\nHost: h:4317\r\n\r\n");
        assert_eq!(&stream.answer[stream.read..], b"SETTINGS");
        let (_, stream) = through("http://user:pass@p:3128", b"HTTP/1.1 200 OK\r\n\r\n");
        assert!(stream.written.ends_with(b"Proxy-Authorization: Basic dXNlcjpwYXNz\r\n\r\n"));
    }

    #[test]
    fn other_answers_are_no_way() {
        let endless = b"x".repeat(HEAD_BYTES_MAX + 1);
        for (answer, error) in [
            (&b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"[..], "the proxy answered 407"),
            (b"SSH-2.0-x\r\n\r\n", "the answer of the proxy is not HTTP"),
            (b"HTTP/1.1 200", "the proxy closed the connection"),
            (&endless, "the answer of the proxy is too large"),
        ] {
            assert_eq!(through("http://p", answer).0, Err(error.to_owned()));
        }
    }
}
