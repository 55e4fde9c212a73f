//! Counts what a client receives, and how long it waited, within a window of time after a warm-up.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use quinn_proto::ConnectionStats;

use super::case::REQUEST;
use crate::scale::figures::Figures;

/// The largest latency that is told apart, nanoseconds.
const LATENCY_MAX_NS: u64 = 60_000_000_000;
/// Chunks of answers between two looks at the clock: it costs as much as a fair part of a chunk.
const CHUNKS_A_LOOK: u32 = 64;
/// Failures that are told apart; of more, only the number is.
const PROBLEMS_MAX: usize = 5;

/// What a client does, as far as its recorder has to know.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// Bytes of each answer.
    pub answer: u64,
    /// Requests under way at a time, over all connections.
    pub outstanding: usize,
    /// What is to be found: how many answers there are and how long they take, or how many bytes they have.
    pub figures: Kind,
    /// What is left out at the start.
    pub warm_up: Duration,
    /// Time that is measured after that.
    pub length: Duration,
}

/// What is to be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Answers a second, and their latency.
    Requests,
    /// Bytes a second.
    Bulk,
}

/// Counts for one client. It is told what happens, by the thread to which it happens, and reads the clock itself.
#[derive(Debug)]
pub struct Recorder {
    terms: Terms,
    /// When the window may begin.
    begin: Instant,
    /// What had happened when it began, and when it ended.
    marks: [Option<(Instant, Count)>; 2],
    total: Count,
    issued: u64,
    chunks: u32,
    latency: Histogram<u64>,
    failures: u64,
    problems: Vec<String>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Count {
    answers: u64,
    bytes: u64,
}

impl Recorder {
    /// A recorder whose warm-up begins at `now`.
    pub fn new(terms: Terms, now: Instant) -> Self {
        Self {
            terms,
            begin: now + terms.warm_up,
            marks: [None; 2],
            total: Count::default(),
            issued: 0,
            chunks: 0,
            latency: histogram(),
            failures: 0,
            problems: Vec::new(),
        }
    }

    /// The next request may be issued: returns the time, from which its latency counts, or nothing when it is over.
    pub fn issue(&mut self) -> Option<Instant> {
        self.issue_at(Instant::now())
    }

    fn issue_at(&mut self, now: Instant) -> Option<Instant> {
        self.look(now);
        if self.marks[1].is_some() {
            return None;
        }
        self.issued += 1;
        Some(now)
    }

    /// A chunk of an answer has come.
    pub fn received(&mut self, bytes: usize) {
        self.total.bytes += bytes as u64;
        self.chunks += 1;
        if self.chunks == CHUNKS_A_LOOK {
            self.look(Instant::now());
        }
    }

    /// The answer to a request issued at `issued` is complete: it had `bytes`. Returns the time at which the next
    /// request is issued, or nothing when it is over.
    pub fn answered(&mut self, issued: Instant, bytes: u64) -> Option<Instant> {
        let now = self.count(issued, bytes);
        self.issue_at(now)
    }

    /// The same where no request follows from it. Returns the time.
    pub fn count(&mut self, issued: Instant, bytes: u64) -> Instant {
        let now = Instant::now();
        let wanted = self.terms.answer;
        if bytes != wanted {
            self.fail(format!("an answer had {bytes} bytes, not {wanted}"));
        }
        self.total.answers += 1;
        // By the time of issue: what was issued within the window counts, however late its answer is.
        if let [Some((start, _)), end] = self.marks
            && issued >= start
            && end.is_none_or(|(end, _)| issued < end)
        {
            let ns = (now - issued).as_nanos() as u64;
            self.latency.saturating_record(ns);
        }
        now
    }

    /// No answer to `requests` requests is waited for any more, which is no failure where the network may lose them.
    pub fn give_up(&mut self, requests: u64) {
        self.issued -= requests;
    }

    /// A request failed, or all of them did.
    pub fn fail(&mut self, problem: String) {
        self.failures += 1;
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(problem);
        }
    }

    /// Whether the window has passed and every request has its answer, or one failed.
    pub fn is_over(&self) -> bool {
        self.failures > 0 || (self.marks[1].is_some() && self.issued == self.total.answers)
    }

    fn look(&mut self, now: Instant) {
        self.chunks = 0;
        let mark = Some((now, self.total));
        match self.marks {
            [None, _] if now >= self.begin => self.marks[0] = mark,
            [Some((start, before)), None]
                if now >= start + self.terms.length && self.says_enough(before) =>
            {
                self.marks[1] = mark;
            }
            _ => {}
        }
    }

    /// On a machine with other work, a short window may pass without an answer: it is kept open then.
    fn says_enough(&self, before: Count) -> bool {
        match self.terms.figures {
            Kind::Requests => self.latency.len() >= self.terms.outstanding as u64,
            Kind::Bulk => self.total.bytes > before.bytes,
        }
    }

    /// What was found; `stats` are the connection's, at the end.
    pub fn figures(&self, stats: Option<&ConnectionStats>) -> Figures {
        let mut figures = Figures::default();
        figures.problems.clone_from(&self.problems);
        let untold = self.failures - self.problems.len() as u64;
        if untold > 0 {
            figures.problems.push(format!("and {untold} more failures"));
        }
        if self.issued != self.total.answers {
            let (issued, answers) = (self.issued, self.total.answers);
            let problem = format!("{issued} requests were issued, {answers} answered");
            figures.problems.push(problem);
        }
        let [Some((start, before)), Some((end, after))] = self.marks else {
            figures.problems.push("it ended early".to_owned());
            return figures;
        };
        let elapsed = end - start;
        if self.terms.figures == Kind::Requests {
            for (name, quantile) in [("p50", 0.5), ("p99", 0.99), ("p999", 0.999)] {
                let ns = self.latency.value_at_quantile(quantile);
                figures.add(name, "us", ns as f64 / 1e3);
            }
            let answers = (after.answers - before.answers) as f64;
            figures.add("requests", "/s", answers / elapsed.as_secs_f64());
        } else {
            let bytes = after.bytes - before.bytes;
            figures.add("goodput", "Gbit/s", gbps(bytes, elapsed));
            if let Some(ConnectionStats { udp_rx, .. }) = stats {
                let mean = udp_rx.bytes as f64 / udp_rx.datagrams as f64;
                figures.add("received datagram", "B", mean);
            }
        }
        figures.add("answers", "", self.total.answers as f64);
        figures.add("bytes", "", self.total.bytes as f64);
        figures
    }
}

/// Of nanoseconds, to three digits; what is longer than a minute counts as that.
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(LATENCY_MAX_NS, 3).expect("the bounds are constants that it takes")
}

fn gbps(bytes: u64, elapsed: Duration) -> f64 {
    bytes as f64 * 8.0 / elapsed.as_nanos() as f64
}

/// A request that asks for an answer of `answer` bytes, as the performance protocol has it.
pub fn request(answer: u64) -> bytes::Bytes {
    let mut request = vec![0; REQUEST];
    request[..8].copy_from_slice(&answer.to_be_bytes());
    request.into()
}

#[cfg(test)]
mod tests {
    use std::thread::sleep;

    use super::*;

    fn recorder(outstanding: usize) -> Recorder {
        let terms = Terms {
            answer: 4096,
            outstanding,
            figures: Kind::Requests,
            warm_up: Duration::from_millis(10),
            length: Duration::from_millis(10),
        };
        Recorder::new(terms, Instant::now())
    }

    #[test]
    fn the_warm_up_and_what_follows_the_end_are_left_out() {
        let mut recorder = recorder(1);
        let mut issued = recorder.issue();
        let mut answers = 0;
        while let Some(at) = issued {
            sleep(Duration::from_micros(100));
            recorder.received(4096);
            answers += 1;
            issued = recorder.answered(at, 4096);
        }
        assert!(recorder.is_over());
        let figures = recorder.figures(None);
        assert!(figures.problems.is_empty(), "{figures:?}");
        assert_eq!(figures.value("answers"), Some(f64::from(answers)));
        assert_eq!(figures.value("bytes"), Some(f64::from(answers) * 4096.0));
        assert!(recorder.latency.len() < recorder.total.answers);
        assert!(figures.value("p50").is_some_and(|us| us >= 100.0));
    }

    #[test]
    fn a_short_answer_is_a_problem() {
        let mut recorder = recorder(16);
        let issued = recorder.issue().unwrap();
        recorder.answered(issued, 4095);
        assert!(recorder.is_over());
        let problems = recorder.figures(None).problems;
        assert!(problems[0].contains("4095 bytes, not 4096"), "{problems:?}");
    }

    #[test]
    fn a_lost_answer_is_a_problem() {
        let mut recorder = recorder(1);
        recorder.issue().unwrap();
        let mut issued = recorder.issue();
        while let Some(at) = issued {
            sleep(Duration::from_millis(1));
            issued = recorder.answered(at, 4096);
        }
        assert!(!recorder.is_over());
        let problems = recorder.figures(None).problems;
        let answers = recorder.total.answers;
        let lost = format!("{} requests were issued, {answers} answered", answers + 1);
        assert_eq!(problems, [lost]);
        recorder.give_up(1);
        assert!(recorder.is_over());
    }
}
