//! Output that nobody reads to its end.

use std::io::{ErrorKind, Result, Write};

/// A writer whose reader may go away: `warden ... | head` is not the command's failure, so what is
/// written after that is dropped.
#[derive(Debug)]
pub struct Pipe<W> {
    to: W,
    closed: bool,
}

impl<W: Write> Pipe<W> {
    /// Writes to this.
    pub const fn new(to: W) -> Self {
        Self { to, closed: false }
    }

    fn or_dropped<T>(&mut self, written: Result<T>, dropped: T) -> Result<T> {
        match written {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(dropped)
            }
            written => written,
        }
    }
}

impl<W: Write> Write for Pipe<W> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        if self.closed {
            return Ok(bytes.len());
        }
        let written = self.to.write(bytes);
        self.or_dropped(written, bytes.len())
    }

    fn flush(&mut self) -> Result<()> {
        if self.closed {
            return Ok(());
        }
        let flushed = self.to.flush();
        self.or_dropped(flushed, ())
    }
}
