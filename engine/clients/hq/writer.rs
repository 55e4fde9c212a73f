//! The thread that writes downloaded files.
//!
//! It takes messages from a bounded channel that it looks at every quarter of a millisecond when there are none: a
//! thread that waits in a channel must be woken, and waking is a system call on the sender's lcore.
//!
//! A file is written under a temporary name in the directory it belongs to, and renamed when it is complete, which
//! replaces an existing file in one step. Temporary files are removed when the download fails and when the client ends;
//! only a killed process leaves them (`.stoq-*.part`).

use std::collections::HashMap;
use std::collections::VecDeque;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError, bounded};

use crate::clients::results::ClientError;

/// Messages that may wait for the thread: what arrives while it sleeps or is not scheduled, 6 MB in datagrams of 1452
/// bytes. A chunk in a message holds a receive buffer of the port, as long as the port has enough of them.
const CHANNEL_MAX: usize = 4096;

/// What is gathered before it is written to a file, in bytes.
const BUFFER: usize = 256 * 1024;

/// How long the thread sleeps when there is nothing to do.
const SLEEP: Duration = Duration::from_micros(250);

/// Distinguishes the temporary files of the writers of this process.
static SERIAL: AtomicU64 = AtomicU64::new(0);

/// Something to call first on a new thread: threads inherit the CPUs of the one that starts them, and this one must
/// not stay on an lcore's.
#[derive(Default)]
pub struct ThreadStart(Option<Box<dyn FnOnce() + Send>>);

impl ThreadStart {
    /// Calls `f` on the new thread.
    pub fn new(f: impl FnOnce() + Send + 'static) -> Self {
        Self(Some(Box::new(f)))
    }
}

impl fmt::Debug for ThreadStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ThreadStart").finish_non_exhaustive()
    }
}

/// What the thread is told about a file, named by its index.
#[derive(Debug)]
pub(super) enum Message {
    /// The next bytes.
    Data(usize, Bytes),
    /// The file is complete.
    End(usize),
    /// The file will not be complete.
    Abort(usize),
}

/// What became of a file: its size, or why it could not be written. At most one per file, and none after an abort.
type Outcome = (usize, Result<u64, ClientError>);

/// The sender's end of the thread.
#[derive(Debug)]
pub(super) struct Writer {
    messages: Option<Sender<Message>>,
    /// What the channel had no room for, in order. Bounded by what is read from a stream at a time, and by one more
    /// message a file.
    backlog: VecDeque<Message>,
    outcomes: Receiver<Outcome>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Makes the directory and starts the thread. `targets` are the files by index.
    pub(super) fn start(
        output: &Path,
        targets: Vec<Option<PathBuf>>,
        thread_start: ThreadStart,
    ) -> Result<Self, ClientError> {
        let failed = |source| ClientError::Write {
            path: output.to_owned(),
            source,
        };
        fs::create_dir_all(output).map_err(failed)?;
        let (messages, received) = bounded(CHANNEL_MAX);
        let (sent, outcomes) = bounded(targets.len().max(1));
        let mut files = Files {
            targets,
            open: HashMap::new(),
            serial: SERIAL.fetch_add(1, Ordering::Relaxed),
            outcomes: sent,
        };
        let work = move || {
            if let Some(start) = thread_start.0 {
                start();
            }
            files.serve(&received);
        };
        let thread = thread::Builder::new().name("hq-writer".into()).spawn(work);
        Ok(Self {
            messages: Some(messages),
            backlog: VecDeque::new(),
            outcomes,
            thread: Some(thread.map_err(failed)?),
        })
    }

    /// Sends a message now or, when the channel is full, with the next [`flush`](Self::flush). Never blocks.
    pub(super) fn send(&mut self, message: Message) {
        self.backlog.push_back(message);
        self.flush();
    }

    /// Sends what waits, as far as there is room.
    pub(super) fn flush(&mut self) {
        let Some(messages) = &self.messages else {
            return;
        };
        while let Some(message) = self.backlog.pop_front() {
            match messages.try_send(message) {
                Ok(()) => {}
                Err(TrySendError::Full(message)) => {
                    self.backlog.push_front(message);
                    return;
                }
                // The thread ends only after this sender.
                Err(TrySendError::Disconnected(_)) => return,
            }
        }
    }

    /// True while messages wait for room: no more data should be sent then.
    pub(super) fn has_backlog(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// The next piece of news.
    pub(super) fn outcome(&self) -> Option<Outcome> {
        self.outcomes.try_recv().ok()
    }

    /// Ends the thread after what it has been sent, and waits for it.
    pub(super) fn join(&mut self) {
        if let (Some(messages), Some(thread)) = (self.messages.take(), self.thread.take()) {
            for message in self.backlog.drain(..) {
                let _ = messages.send(message); // Fails only if the thread has panicked.
            }
            drop(messages);
            let _ = thread.join();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.join();
    }
}

/// The thread's side.
struct Files {
    targets: Vec<Option<PathBuf>>,
    open: HashMap<usize, Part>,
    serial: u64,
    outcomes: Sender<Outcome>,
}

/// A file being written, or (`None`) one that failed and whose further bytes are thrown away.
type Part = Option<Temporary>;

impl Files {
    fn serve(&mut self, messages: &Receiver<Message>) {
        loop {
            match messages.try_recv() {
                Ok(message) => self.take(message),
                Err(TryRecvError::Empty) => thread::sleep(SLEEP),
                Err(TryRecvError::Disconnected) => return,
            }
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Data(index, bytes) => self.write(index, &bytes),
            Message::End(index) => {
                self.write(index, &[]); // Makes the file if it is empty.
                if let Some(Some(part)) = self.open.remove(&index) {
                    let target = part.target.clone();
                    let outcome = part.complete();
                    self.tell(index, &target, outcome);
                }
            }
            Message::Abort(index) => {
                self.open.remove(&index);
            }
        }
    }

    fn write(&mut self, index: usize, bytes: &[u8]) {
        let Some(Some(target)) = self.targets.get(index) else {
            return;
        };
        let target = target.clone();
        let part = match self.open.entry(index) {
            std::collections::hash_map::Entry::Occupied(entry) => Ok(entry.into_mut()),
            std::collections::hash_map::Entry::Vacant(entry) => {
                Temporary::create(&target, self.serial, index).map(|part| entry.insert(Some(part)))
            }
        };
        let failed = match part {
            Ok(None) => return,
            Ok(Some(part)) => part.write(bytes).err(),
            Err(error) => Some(error),
        };
        if let Some(error) = failed {
            self.open.insert(index, None);
            self.tell(index, &target, Err(error));
        }
    }

    fn tell(&mut self, index: usize, target: &Path, outcome: io::Result<u64>) {
        let outcome = outcome.map_err(|source| ClientError::Write {
            path: target.to_owned(),
            source,
        });
        // There is room for one outcome of every file; nobody listens only when the client is gone.
        let _ = self.outcomes.try_send((index, outcome));
    }
}

/// A file that is removed when dropped before it is complete.
#[derive(Debug)]
struct Temporary {
    target: PathBuf,
    path: PathBuf,
    file: Option<BufWriter<File>>,
    bytes: u64,
}

impl Temporary {
    fn create(target: &Path, serial: u64, index: usize) -> io::Result<Self> {
        let directory = target.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(directory)?;
        let name = format!(".stoq-{}-{serial}-{index}.part", std::process::id());
        let path = directory.join(name);
        let file = File::create_new(&path)?;
        Ok(Self {
            target: target.to_owned(),
            path,
            file: Some(BufWriter::with_capacity(BUFFER, file)),
            bytes: 0,
        })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            file.write_all(bytes)?;
            self.bytes += bytes.len() as u64;
        }
        Ok(())
    }

    fn complete(mut self) -> io::Result<u64> {
        if let Some(file) = &mut self.file {
            file.flush()?;
        }
        fs::rename(&self.path, &self.target)?;
        self.file = None;
        Ok(self.bytes)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            drop(file.into_parts()); // What is buffered need not be written any more.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(writer: &mut Writer) -> Outcome {
        for _ in 0..10_000 {
            writer.flush();
            if let Some(outcome) = writer.outcome() {
                return outcome;
            }
            thread::sleep(SLEEP);
        }
        panic!("the writer said nothing");
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn files_appear_when_they_are_complete() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("sub/file");
        fs::create_dir(directory.path().join("sub")).unwrap();
        fs::write(&target, "old").unwrap();
        let empty = directory.path().join("empty");
        let targets = vec![Some(target.clone()), Some(empty.clone())];
        let mut writer = Writer::start(directory.path(), targets, ThreadStart::default()).unwrap();
        // More than the channel takes: the rest waits and keeps its order.
        for n in 0..9000u32 {
            writer.send(Message::Data(0, Bytes::from(format!("{n:04}"))));
        }
        while writer.has_backlog() {
            assert_eq!(fs::read(&target).unwrap(), b"old");
            writer.flush();
        }
        writer.send(Message::End(0));
        let (index, outcome) = wait(&mut writer);
        assert_eq!((index, outcome.unwrap()), (0, 36_000));
        let expected: String = (0..9000).map(|n| format!("{n:04}")).collect();
        assert_eq!(fs::read_to_string(&target).unwrap(), expected);

        writer.send(Message::End(1));
        assert_eq!(wait(&mut writer).1.unwrap(), 0);
        assert_eq!(fs::read(&empty).unwrap(), b"");
        assert_eq!(names(&directory.path().join("sub")), ["file"]);
    }

    #[test]
    fn nothing_is_left_of_files_that_fail() {
        let directory = tempfile::tempdir().unwrap();
        let targets = (0..3)
            .map(|n| Some(directory.path().join(format!("{n}"))))
            .collect();
        let mut writer = Writer::start(directory.path(), targets, ThreadStart::default()).unwrap();
        for index in 0..3 {
            writer.send(Message::Data(index, Bytes::from_static(b"some")));
        }
        writer.send(Message::Abort(0));
        writer.send(Message::End(1));
        assert_eq!(wait(&mut writer).0, 1);
        drop(writer); // 2 never ends.
        assert_eq!(names(directory.path()), ["1"]);
    }

    #[test]
    fn a_file_that_cannot_be_written_is_told_of_once() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("file"), "").unwrap();
        let target = directory.path().join("file/below");
        let targets = vec![Some(target.clone())];
        let mut writer = Writer::start(directory.path(), targets, ThreadStart::default()).unwrap();
        writer.send(Message::Data(0, Bytes::from_static(b"some")));
        let error = wait(&mut writer).1.unwrap_err().to_string();
        assert!(error.contains(target.to_str().unwrap()), "{error}");
        writer.send(Message::Data(0, Bytes::from_static(b"more")));
        writer.send(Message::End(0));
        writer.join();
        assert!(writer.outcome().is_none());
    }

    #[test]
    fn the_thread_starts_as_it_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let (sender, receiver) = bounded(1);
        let start = ThreadStart::new(move || {
            let _ = sender.send(thread::current().name().map(str::to_owned));
        });
        let writer = Writer::start(directory.path(), Vec::new(), start);
        assert_eq!(receiver.recv().unwrap().as_deref(), Some("hq-writer"));
        drop(writer);
    }
}
