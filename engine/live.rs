//! The live line of a running engine: once a second, in place, on a terminal.

use std::io::{self, Write};
use std::time::Duration;

use crate::format::{bits_per_second, bytes, decimal};

/// Cells of the progress bar.
const BAR: u64 = 20;

/// Counters at one moment; all but `at` and `connections` count up from the start of the run.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    /// Time since the start of the shards.
    pub at: Duration,
    /// Application bytes received.
    pub bytes_received: u64,
    /// Frames received.
    pub rx_frames: u64,
    /// Frames sent.
    pub tx_frames: u64,
    /// Connections at this moment.
    pub connections: u64,
    /// Frames and datagrams dropped, for whatever reason.
    pub dropped: u64,
    /// Progress of downloads, when there are any.
    pub downloads: Option<Downloads>,
}

/// Progress of downloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Downloads {
    /// Bytes received.
    pub bytes: u64,
    /// Bytes in all, where known; otherwise the bar shows files.
    pub bytes_total: Option<u64>,
    /// Files that are complete.
    pub files: u64,
    /// Files in all.
    pub files_total: u64,
}

/// Writes the live line over itself. Where output is no terminal, it writes nothing.
#[derive(Debug)]
pub struct Live<W> {
    out: Option<W>,
    warmup: Duration,
    last: Sample,
}

impl<W: Write> Live<W> {
    /// A live line on `out`, if `out` is a terminal. Until `warmup` is over, the line says that it does not count.
    pub fn new(out: W, is_terminal: bool, warmup: Duration) -> Self {
        Self {
            out: is_terminal.then_some(out),
            warmup,
            last: Sample::default(),
        }
    }

    /// Shows what happened since the last sample.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn show(&mut self, sample: Sample) -> io::Result<()> {
        if let Some(out) = &mut self.out {
            let line = line(&self.last, &sample, self.warmup);
            // Erase; no line wrap meanwhile, so that a narrow terminal cuts the line instead of scrolling. The cursor
            // goes back to the start, and a log line then takes this one's place.
            write!(out, "\r\x1b[K\x1b[?7l{line}\x1b[?7h\r")?;
            out.flush()?;
        }
        self.last = sample;
        Ok(())
    }

    /// Erases the line: something else follows.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn clear(&mut self) -> io::Result<()> {
        match &mut self.out {
            Some(out) => {
                write!(out, "\r\x1b[K")?;
                out.flush()
            }
            None => Ok(()),
        }
    }
}

/// The line for what happened between two samples.
pub fn line(before: &Sample, now: &Sample, warmup: Duration) -> String {
    let seconds = now.at.saturating_sub(before.at).as_secs_f64();
    let rate = |before: u64, now: u64| {
        if seconds > 0.0 {
            now.saturating_sub(before) as f64 / seconds
        } else {
            0.0
        }
    };
    let goodput = bits_per_second(rate(before.bytes_received, now.bytes_received) * 8.0);
    let rx = decimal(rate(before.rx_frames, now.rx_frames).round());
    let tx = decimal(rate(before.tx_frames, now.tx_frames).round());
    let mut line = format!(
        "{:>4.0} s  {goodput:>9}  rx {rx:>6}/s  tx {tx:>6}/s  {} connections  {}dropped",
        now.at.as_secs_f64(),
        now.connections,
        decimal(now.dropped as f64),
    );
    if now.at <= warmup {
        line.push_str("  (warm-up)");
    }
    if let Some(downloads) = &now.downloads {
        let earlier = before.downloads.map_or(0, |downloads| downloads.bytes);
        let rate = bytes(rate(earlier, downloads.bytes) as u64);
        line.push_str(&format!("  {} {rate}/s", progress(downloads)));
    }
    line
}

/// `[##########----------]  50 %  3/6 files  1.20 GiB`
fn progress(downloads: &Downloads) -> String {
    let Downloads {
        bytes: received,
        bytes_total,
        files,
        files_total,
    } = *downloads;
    let (done, all) = match bytes_total {
        Some(total) => (received, total),
        None => (files, files_total),
    };
    let share = |of: u64| match all {
        0 => 0,
        // In wide integers: a product of two byte counts does not fit in 64 bits.
        all => (u128::from(done.min(all)) * u128::from(of) / u128::from(all)) as u64,
    };
    let filled = share(BAR) as usize;
    let bar = format!(
        "{}{}",
        "#".repeat(filled),
        "-".repeat(BAR as usize - filled)
    );
    format!(
        "[{bar}] {:>3} %  {files}/{files_total} files  {}",
        share(100),
        bytes(received)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Sample {
        Sample {
            at: Duration::from_secs(seconds),
            bytes_received: seconds * 1_250_000_000,
            rx_frames: seconds * 812_000,
            tx_frames: seconds * 99,
            connections: 2,
            dropped: 7,
            downloads: None,
        }
    }

    #[test]
    fn a_second_of_bulk() {
        assert_eq!(
            line(&at(4), &at(5), Duration::from_millis(500)),
            "   5 s  10.0 Gbps  rx  812 k/s  tx    99 /s  2 connections  7 dropped"
        );
    }

    #[test]
    fn the_warm_up_is_marked() {
        let warmup = Duration::from_secs(2);
        assert!(line(&at(1), &at(2), warmup).ends_with("(warm-up)"));
        assert!(!line(&at(2), &at(3), warmup).contains("warm-up"));
    }

    #[test]
    fn no_time_and_counters_that_stand_still_are_no_trouble() {
        let text = line(&at(3), &at(3), Duration::ZERO);
        assert!(text.contains(" 0 bps"), "{text}");
        let text = line(
            &at(4),
            &Sample {
                bytes_received: 0,
                ..at(5)
            },
            Duration::ZERO,
        );
        assert!(text.contains(" 0 bps"), "{text}");
    }

    fn downloads(bytes: u64, bytes_total: Option<u64>, files: u64) -> Downloads {
        Downloads {
            bytes,
            bytes_total,
            files,
            files_total: 4,
        }
    }

    #[test]
    fn progress_by_files_or_bytes() {
        assert_eq!(
            progress(&downloads(3 << 30, None, 1)),
            "[#####---------------]  25 %  1/4 files  3.00 GiB"
        );
        assert_eq!(
            progress(&downloads(3 << 30, Some(4 << 30), 1)),
            "[###############-----]  75 %  1/4 files  3.00 GiB"
        );
        assert_eq!(
            progress(&downloads(u64::MAX, Some(u64::MAX), 4)),
            "[####################] 100 %  4/4 files  16.0 EiB"
        );
        let none = Downloads {
            files_total: 0,
            ..downloads(0, None, 0)
        };
        assert_eq!(
            progress(&none),
            "[--------------------]   0 %  0/0 files  0 B"
        );
        // More than announced: the bar is full, not longer.
        assert!(progress(&downloads(9, Some(4), 1)).contains("] 100 %"));
    }

    #[test]
    fn downloads_have_their_own_rate() {
        let before = Sample {
            downloads: Some(downloads(1 << 30, None, 0)),
            ..at(1)
        };
        let now = Sample {
            downloads: Some(downloads(3 << 30, None, 2)),
            ..at(3)
        };
        let text = line(&before, &now, Duration::ZERO);
        assert!(text.ends_with("2/4 files  3.00 GiB 1.00 GiB/s"), "{text}");
    }

    #[test]
    fn writes_in_place_on_a_terminal_only() {
        let mut live = Live::new(Vec::new(), true, Duration::ZERO);
        live.show(at(1)).unwrap();
        live.show(at(2)).unwrap();
        live.clear().unwrap();
        let text = String::from_utf8(live.out.unwrap()).unwrap();
        assert_eq!(text.matches("\r\x1b[K").count(), 3);
        assert!(!text.contains('\n'));

        let mut live = Live::new(Vec::new(), false, Duration::ZERO);
        live.show(at(1)).unwrap();
        live.clear().unwrap();
        assert!(live.out.is_none());
    }
}
