//! A client over a socket that sends whatever frames it is told.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use otlp_core::Signal;

use crate::http2::{self, Answer, Frame};
use crate::server::LONG;

pub(crate) trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// A connection.
pub(crate) struct Raw {
    pub(crate) stream: Box<dyn Stream>,
    unread: Vec<u8>,
    /// Frames that came while others were waited for.
    pub(crate) seen: VecDeque<Frame>,
    /// The last stream that was used.
    pub(crate) last: u32,
    /// What may be sent on the connection, and on a new stream.
    pub(crate) window: usize,
    pub(crate) stream_window: usize,
}

impl Raw {
    pub(crate) fn connect(address: SocketAddr) -> Raw {
        Raw::with(address, &[])
    }

    /// One that begins with these settings.
    pub(crate) fn with(address: SocketAddr, settings: &[(u16, u32)]) -> Raw {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.set_nodelay(true).unwrap();
        Raw::over(Box::new(stream), settings)
    }

    pub(crate) fn over(stream: Box<dyn Stream>, settings: &[(u16, u32)]) -> Raw {
        let (unread, seen) = (Vec::new(), VecDeque::new());
        let mut raw = Raw { stream, unread, seen, last: 0, window: 65_535, stream_window: 65_535 };
        raw.send(&http2::hello(settings));
        raw
    }

    /// The same where the server may be gone.
    pub(crate) fn over_or_closed(stream: Box<dyn Stream>) -> Raw {
        let (unread, seen) = (Vec::new(), VecDeque::new());
        let mut raw = Raw { stream, unread, seen, last: 0, window: 65_535, stream_window: 65_535 };
        raw.try_send(&http2::hello(&[]));
        raw
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> &mut Raw {
        self.stream.write_all(bytes).unwrap();
        self
    }

    /// The same where the server may close while we still write. False where it did.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    pub(crate) fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> &mut Raw {
        self.send(&http2::frame(kind, flags, stream, payload))
    }

    /// A stream that was not used yet.
    pub(crate) fn next(&mut self) -> u32 {
        self.last = if self.last == 0 { 1 } else { self.last + 2 };
        self.last
    }

    /// Begins an export, and says on which stream.
    pub(crate) fn begin(&mut self, signal: Signal, more: &[(&str, &str)]) -> u32 {
        let stream = self.next();
        let block = http2::block(&http2::fields(signal.grpc_path(), more));
        self.frame(http2::HEADERS, http2::END_HEADERS, stream, &block);
        stream
    }

    /// Sends a small export, and says on which stream.
    pub(crate) fn start(&mut self, signal: Signal, more: &[(&str, &str)], data: &[u8]) -> u32 {
        let stream = self.next();
        self.send(&http2::call(stream, signal.grpc_path(), more, data));
        // Small enough for any window there is.
        self.window = self.window.saturating_sub(data.len());
        stream
    }

    /// An export of any size, within the windows.
    pub(crate) fn export(&mut self, signal: Signal, more: &[(&str, &str)], data: &[u8]) -> Answer {
        let stream = self.begin(signal, more);
        self.data(stream, data);
        self.answer(stream)
    }

    /// Sends all DATA of a stream, within the windows, and ends it.
    pub(crate) fn data(&mut self, stream: u32, data: &[u8]) {
        let (mut sent, mut window) = (0, self.stream_window);
        loop {
            let size = (data.len() - sent).min(16_384).min(self.window).min(window);
            if size == 0 && sent < data.len() {
                let frame = self.read().expect("more window");
                match (frame.kind, frame.stream) {
                    (http2::WINDOW_UPDATE, 0) => {}
                    (http2::WINDOW_UPDATE, own) if own == stream => window += frame.number(0) as usize,
                    (http2::SETTINGS, _) => window = self.stream_window - sent,
                    // It has an answer already.
                    (http2::HEADERS | http2::RST_STREAM, own) if own == stream => return self.seen.push_back(frame),
                    _ => self.seen.push_back(frame),
                }
                continue;
            }
            let end = sent + size == data.len();
            self.frame(http2::DATA, u8::from(end), stream, &data[sent..sent + size]);
            sent += size;
            self.window -= size;
            window -= size;
            if end {
                return;
            }
        }
    }

    /// The answer of a stream.
    pub(crate) fn answer(&mut self, stream: u32) -> Answer {
        self.answer_or_close(stream).expect("an answer")
    }

    pub(crate) fn answer_or_close(&mut self, stream: u32) -> Option<Answer> {
        let mut answer = Answer::default();
        let (own, others) = self.seen.drain(..).partition::<Vec<_>, _>(|frame| frame.stream == stream);
        self.seen = others.into();
        own.iter().for_each(|frame| answer.take(frame));
        while !answer.ended {
            let frame = self.read()?;
            match frame.stream == stream {
                true => answer.take(&frame),
                false => self.seen.push_back(frame),
            }
        }
        Some(answer)
    }

    /// The next frame of a kind.
    pub(crate) fn await_frame(&mut self, kind: u8) -> Frame {
        self.await_frame_or_close(kind).expect("a frame")
    }

    pub(crate) fn await_frame_or_close(&mut self, kind: u8) -> Option<Frame> {
        if let Some(at) = self.seen.iter().position(|frame| frame.kind == kind) {
            return self.seen.remove(at);
        }
        loop {
            let frame = self.read()?;
            if frame.kind == kind {
                return Some(frame);
            }
            self.seen.push_back(frame);
        }
    }

    /// The next frame; `None` where the connection was closed. Settings are acknowledged, windows kept.
    pub(crate) fn read(&mut self) -> Option<Frame> {
        let frame = loop {
            if let Some(frame) = Frame::take(&mut self.unread) {
                break frame;
            }
            let mut buffer = [0; 16 << 10];
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(bytes) => self.unread.extend_from_slice(&buffer[..bytes]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    panic!("no frame in time")
                }
                // Reset, or an alert of TLS.
                Err(_) => return None,
            }
        };
        match (frame.kind, frame.stream) {
            (http2::SETTINGS, 0) if frame.flags & http2::ACK == 0 => {
                for pair in frame.payload.chunks(6) {
                    if pair[..2] == [0, 4] {
                        self.stream_window = u32::from_be_bytes(pair[2..].try_into().unwrap()) as usize;
                    }
                }
                self.try_send(&http2::frame(http2::SETTINGS, http2::ACK, 0, b""));
            }
            (http2::WINDOW_UPDATE, 0) => self.window += frame.number(0) as usize,
            _ => {}
        }
        Some(frame)
    }

    /// Whether the server closes, whatever it says before; with the code of its GOAWAY.
    pub(crate) fn closed(&mut self) -> Option<u32> {
        let mut code = None;
        for frame in std::mem::take(&mut self.seen) {
            if frame.kind == http2::GOAWAY {
                code = Some(frame.number(4));
            }
        }
        while let Some(frame) = self.read() {
            if frame.kind == http2::GOAWAY {
                code = Some(frame.number(4));
            }
        }
        code
    }
}
