//! Output that nobody waits for: a terminal that is stopped (Ctrl-S), or a pipe that is full, holds up neither an lcore
//! nor the control thread.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

/// How long the end waits for what is still to be written.
const FLUSH_MAX: Duration = Duration::from_secs(1);

/// Writes from a thread of its own. Each call of [`Write::write`] is one piece; pieces that find the queue full are
/// lost. Copies write to the same place.
#[derive(Debug, Clone)]
pub struct Outlet {
    jobs: Sender<Job>,
    lost: Arc<AtomicU64>,
}

enum Job {
    Write(Vec<u8>),
    /// Tell when everything before it is written.
    Flush(Sender<()>),
}

impl Outlet {
    /// Writes to `out`. `capacity` pieces may wait. With `tell_losses`, a line says how many were lost, once there is
    /// room for it.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn new<W>(out: W, capacity: usize, tell_losses: bool) -> io::Result<Self>
    where
        W: Write + Send + 'static,
    {
        let (jobs, queue) = bounded(capacity);
        let lost = Arc::<AtomicU64>::default();
        let told = tell_losses.then(|| Arc::clone(&lost));
        std::thread::Builder::new()
            .name("outlet".to_owned())
            .spawn(move || write_all(out, &queue, told.as_deref()))?;
        Ok(Self { jobs, lost })
    }

    /// Waits until everything is written, but not for long.
    pub fn drain(&self) {
        let deadline = Instant::now() + FLUSH_MAX;
        let (done, told) = bounded(1);
        if self.jobs.send_deadline(Job::Flush(done), deadline).is_ok() {
            let _ = told.recv_deadline(deadline);
        }
    }
}

impl Write for Outlet {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        if self.jobs.try_send(Job::Write(piece.to_vec())).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes until the last outlet is gone. What cannot be written is nobody's concern: the reader has left.
fn write_all(mut out: impl Write, queue: &Receiver<Job>, lost: Option<&AtomicU64>) {
    for job in queue {
        match job {
            Job::Write(piece) => {
                let _ = out.write_all(&piece).and_then(|()| out.flush());
            }
            Job::Flush(done) => {
                let _ = done.send(());
            }
        }
        let lost = lost.map_or(0, |lost| lost.swap(0, Ordering::Relaxed));
        if lost > 0 {
            let _ = writeln!(
                out,
                "({lost} lines were lost: they could not be written in time)"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Takes nothing until it is opened.
    #[derive(Clone)]
    struct Gate {
        open: Receiver<()>,
        written: Arc<Mutex<String>>,
    }

    impl Write for Gate {
        fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
            // An error: the gate is open for good.
            let _ = self.open.recv();
            let text = std::str::from_utf8(piece).unwrap();
            self.written.lock().unwrap().push_str(text);
            Ok(piece.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_writer_never_waits_and_losses_are_told() {
        for tell in [true, false] {
            let (opener, open) = bounded::<()>(0);
            let written = Arc::<Mutex<String>>::default();
            let gate = Gate {
                open,
                written: Arc::clone(&written),
            };
            let mut outlet = Outlet::new(gate, 2, tell).unwrap();
            // One may be with the thread already, two wait: of six, three at least are lost.
            for piece in ["a\n", "b\n", "c\n", "d\n", "e\n", "f\n"] {
                outlet.write_all(piece.as_bytes()).unwrap();
            }
            assert_eq!(*written.lock().unwrap(), "");
            drop(opener);
            outlet.drain();
            let text = written.lock().unwrap().clone();
            assert!(text.starts_with("a\n"), "{text}");
            assert_eq!(text.contains("lines were lost"), tell, "{text}");
            outlet.write_all(b"last\n").unwrap();
            outlet.drain();
            assert!(written.lock().unwrap().ends_with("last\n"));
        }
    }

    #[test]
    fn the_end_does_not_wait_for_a_reader_that_is_stuck() {
        let (_opener, open) = bounded::<()>(0);
        let gate = Gate {
            open,
            written: Arc::default(),
        };
        let mut outlet = Outlet::new(gate, 1, true).unwrap();
        for _ in 0..4 {
            outlet.write_all(b"x\n").unwrap();
        }
        outlet.drain();
    }
}
