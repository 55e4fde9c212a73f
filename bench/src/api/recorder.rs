//! Counts what a client receives, and how long it waited, within a window of time after a warm-up.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use quinn_proto::ConnectionStats;

use super::case::{Case, REQUEST, Spec};
use crate::scale::figures::Figures;

/// The largest latency that is told apart, nanoseconds.
const LATENCY_MAX_NS: u64 = 60_000_000_000;
/// Chunks of answers between two looks at the clock: it costs as much as a fair part of a chunk.
const CHUNKS_A_LOOK: u32 = 64;
/// Failures that are told apart; of more, only the number is.
const PROBLEMS_MAX: usize = 5;

/// Counts for one client. It is told what happens, by the thread to which it happens, and reads the clock itself.
#[derive(Debug)]
pub struct Recorder {
    case: Case,
    /// When the window may begin.
    begin: Instant,
    length: Duration,
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
    pub fn new(spec: &Spec, now: Instant) -> Self {
        Self {
            case: spec.case,
            begin: now + spec.warm_up(),
            length: spec.length(),
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
        let now = Instant::now();
        if bytes != self.case.answer() {
            let wanted = self.case.answer();
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
        self.issue_at(now)
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
                if now >= start + self.length && self.says_enough(before) =>
            {
                self.marks[1] = mark;
            }
            _ => {}
        }
    }

    /// On a machine with other work, a short window may pass without an answer: it is kept open then.
    fn says_enough(&self, before: Count) -> bool {
        match self.case.is_requests() {
            true => self.latency.len() >= self.case.outstanding() as u64,
            false => self.total.bytes > before.bytes,
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
        if self.case.is_requests() {
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
    use crate::api::case::Way;

    fn recorder(case: Case) -> Recorder {
        let spec = Spec {
            way: Way::Quinn,
            case,
            seconds: 0.01,
        };
        Recorder::new(&spec, Instant::now())
    }

    #[test]
    fn the_warm_up_and_what_follows_the_end_are_left_out() {
        let mut recorder = recorder(Case::Requests1);
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
        let mut recorder = recorder(Case::Requests16);
        let issued = recorder.issue().unwrap();
        recorder.answered(issued, 4095);
        assert!(recorder.is_over());
        let problems = recorder.figures(None).problems;
        assert!(problems[0].contains("4095 bytes, not 4096"), "{problems:?}");
    }

    #[test]
    fn a_lost_answer_is_a_problem() {
        let mut recorder = recorder(Case::Requests1);
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
    }
}
