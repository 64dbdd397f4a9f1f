//! The TLS layer of one connection, between its socket and its protocol.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use rustls::ServerConnection;

/// The server's side of one TLS connection.
pub(super) struct Tls {
    tls: ServerConnection,
    /// Bytes of the protocol's output that were encrypted and are not all written.
    pub(super) pending: usize,
}

impl Tls {
    pub(super) fn new(tls: ServerConnection) -> Tls {
        Tls { tls, pending: 0 }
    }

    /// Takes what came from the socket; the plain text is appended to `plain`.
    ///
    /// # Errors
    ///
    /// Where it is no TLS, or the peer does not fulfil what is asked of it. An alert waits to be written then.
    pub(super) fn receive(&mut self, mut bytes: &[u8], plain: &mut Vec<u8>) -> io::Result<()> {
        while !bytes.is_empty() {
            // It takes a few kilobytes at a time, and is emptied every time, so that it never refuses more.
            if self.tls.read_tls(&mut bytes)? == 0 {
                return Ok(());
            }
            let state = self.tls.process_new_packets().map_err(io::Error::other)?;
            let (start, more) = (plain.len(), state.plaintext_bytes_to_read());
            if more > 0 {
                plain.resize(start + more, 0);
                self.tls.reader().read_exact(&mut plain[start..])?;
            }
        }
        Ok(())
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.tls.is_handshaking()
    }

    /// The protocol that both sides agreed on, if the client asked.
    pub(super) fn alpn(&self) -> Option<&[u8]> {
        self.tls.alpn_protocol()
    }

    pub(super) fn wants_write(&self) -> bool {
        self.tls.wants_write()
    }

    /// Encrypts as much of `output` as it has room for.
    pub(super) fn encrypt(&mut self, output: &[u8]) {
        self.pending = self.tls.writer().write(output).unwrap_or(0);
    }

    /// Writes what is encrypted. False where the socket takes no more for now.
    pub(super) fn flush(&mut self, mut stream: &TcpStream) -> io::Result<bool> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut stream) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Tells the peer that this was all.
    pub(super) fn close(&mut self, stream: &TcpStream) {
        self.tls.send_close_notify();
        let _ = self.flush(stream);
    }
}
