//! `engine top`: what a running engine does, live in the terminal.
//!
//! It asks the engine over DPDK's telemetry socket (see [`metrics`](crate::metrics)), so it needs no configuration, and
//! the engine notices nothing of it on its lcores.

mod client;
mod reading;
mod view;

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use rustix::termios::tcgetwinsize;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use self::client::Client;
use self::reading::Reading;
use self::view::View;

pub use self::client::TopError;

/// How often signals are looked for while waiting.
const STEP: Duration = Duration::from_millis(50);
/// Where standard output does not tell its size.
const SIZE: (usize, usize) = (80, 24);

/// What to show, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// EAL's file prefix of the engine; without one, there must be one engine only.
    pub file_prefix: Option<String>,
    /// Time between two readings.
    pub interval: Duration,
    /// Show one interval, then end.
    pub once: bool,
    /// One JSON object an interval.
    pub json: bool,
}

/// Shows a running engine until it ends or a signal comes. On a terminal each view takes the place of the last; elsewhere
/// they follow each other.
///
/// # Errors
/// No engine, several, or one that stopped answering. One that ends while it is watched is no error, unless
/// [`once`](Options::once) was asked for and there is nothing to show.
pub fn run(options: &Options) -> Result<(), TopError> {
    // Without signals, the process simply ends with one.
    let mut signals = Signals::new([SIGINT, SIGTERM]).ok();
    let client = Client::attach(options.file_prefix.as_deref())?;
    let mut screen = Screen::new(options);
    let mut before = Reading::take(&client)?;
    loop {
        if !pause(before.at + options.interval, signals.as_mut()) {
            return Ok(());
        }
        let now = match Reading::take(&client) {
            Err(TopError::Ended) if !options.once => {
                screen.end("the engine has ended");
                return Ok(());
            }
            reading => reading?,
        };
        let view = View::new(client.pid(), client.prefix(), &before, &now);
        // A reader that has seen enough, such as `head`, or a terminal that is gone.
        if screen.show(&view).is_err() || options.once {
            return Ok(());
        }
        before = now;
    }
}

/// Waits; false when a signal came first.
fn pause(until: Instant, mut signals: Option<&mut Signals>) -> bool {
    loop {
        if let Some(signals) = &mut signals
            && signals.pending().next().is_some()
        {
            return false;
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        std::thread::sleep(left.min(STEP));
    }
}

/// Where views are shown.
struct Screen {
    json: bool,
    once: bool,
    is_terminal: bool,
    /// Something was shown before.
    begun: bool,
}

impl Screen {
    fn new(options: &Options) -> Self {
        Self {
            json: options.json,
            once: options.once,
            is_terminal: io::stdout().is_terminal(),
            begun: false,
        }
    }

    fn show(&mut self, view: &View) -> io::Result<()> {
        let mut out = io::stdout().lock();
        let in_place = self.is_terminal && !self.once && !self.json;
        let text = match (self.json, self.once) {
            (true, true) => serde_json::to_string_pretty(view)? + "\n",
            (true, false) => serde_json::to_string(view)? + "\n",
            (false, _) if in_place => redrawn(&view.to_string(), size(), self.begun),
            // A blank line between two.
            (false, _) if self.begun => format!("\n{view}"),
            (false, _) => view.to_string(),
        };
        self.begun = true;
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    /// The last word, below what is shown.
    fn end(&self, message: &str) {
        let _ = writeln!(io::stderr(), "{message}");
    }
}

/// Columns and rows of the terminal.
fn size() -> (usize, usize) {
    match tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
        _ => SIZE,
    }
}

/// `text` in the place of what the terminal shows: cut to its size, each line over the one before it, the rest erased.
fn redrawn(text: &str, (columns, rows): (usize, usize), begun: bool) -> String {
    // What was there before scrolls away once; later views go over the earlier ones.
    let mut frame = match begun {
        true => "\x1b[H".to_owned(),
        false => "\n".repeat(rows) + "\x1b[H",
    };
    let lines: Vec<&str> = text.lines().collect();
    // The last row is the cursor's.
    let room = rows.saturating_sub(1).max(1);
    let shown = match lines.len() > room {
        true => room - 1,
        false => lines.len(),
    };
    for line in lines.iter().take(shown) {
        frame.extend(line.chars().take(columns));
        frame.push_str("\x1b[K\n");
    }
    if shown < lines.len() {
        let more = format!("... {} more lines", lines.len() - shown);
        frame.extend(more.chars().take(columns));
        frame.push_str("\x1b[K\n");
    }
    frame.push_str("\x1b[J");
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_is_cut_to_the_terminal() {
        let text = "first line\nsecond\nthird\nfourth\n";
        assert_eq!(
            redrawn(text, (80, 24), true),
            "\x1b[Hfirst line\x1b[K\nsecond\x1b[K\nthird\x1b[K\nfourth\x1b[K\n\x1b[J"
        );
        assert_eq!(
            redrawn(text, (5, 4), true),
            "\x1b[Hfirst\x1b[K\nsecon\x1b[K\n... 2\x1b[K\n\x1b[J"
        );
        assert!(redrawn(text, (80, 3), false).starts_with("\n\n\n\x1b[Hfirst line"));
    }

    #[test]
    fn the_smallest_terminal_is_no_problem() {
        for rows in 0..3 {
            let frame = redrawn("a\nb\nc\n", (1, rows), true);
            assert!(frame.lines().count() <= rows.max(2), "{frame:?}");
        }
    }
}
