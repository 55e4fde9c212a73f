//! Runs a program to its end within a bounded time, and reads the JSON that is the last line it printed.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Why a run gave no figure.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// A file of the run could not be made or read, or the program could not be started.
    #[error("{what}: {error}")]
    Io {
        /// The file or program.
        what: String,
        /// The system's error.
        error: std::io::Error,
    },
    /// The program did not end in time and was killed.
    #[error("{program} did not end within {limit:?}; its log is {log}")]
    TimedOut {
        /// The program.
        program: String,
        /// The time it had.
        limit: Duration,
        /// Where its standard error went.
        log: String,
    },
    /// The program failed.
    #[error("{program} ended with {status}; the end of its log, {log}:\n{tail}")]
    Failed {
        /// The program.
        program: String,
        /// Its exit status.
        status: std::process::ExitStatus,
        /// Where its standard error went.
        log: String,
        /// The last lines of it.
        tail: String,
    },
    /// What it printed is not what was expected.
    #[error("{program}: {problem}")]
    Output {
        /// The program.
        program: String,
        /// What is wrong.
        problem: String,
    },
}

/// Lines of a log that are shown when a program failed.
const TAIL_LINES: usize = 12;
/// How often a program is looked after; seldom enough not to disturb it.
const LOOK: Duration = Duration::from_millis(20);

/// Runs `command` for at most `limit` with its outputs in files of `folder`, and parses its last line as JSON.
///
/// # Errors
/// See [`ChildError`].
pub fn run_json(
    command: &mut Command,
    folder: &Path,
    limit: Duration,
) -> Result<Value, ChildError> {
    let log = folder.join(format!("{}.log", name(command)));
    command.stderr(create(&log)?);
    run(command, folder, limit, Some(&log))
}

/// The same for a program whose standard error people want to see while it runs.
///
/// # Errors
/// See [`ChildError`].
pub fn run_json_aloud(
    command: &mut Command,
    folder: &Path,
    limit: Duration,
) -> Result<Value, ChildError> {
    run(command, folder, limit, None)
}

fn run(
    command: &mut Command,
    folder: &Path,
    limit: Duration,
    log: Option<&Path>,
) -> Result<Value, ChildError> {
    let program = name(command);
    let out = folder.join(format!("{program}.out"));
    let shown = log.map_or_else(|| "shown above".to_owned(), |log| log.display().to_string());
    let mut child = command
        .stdin(Stdio::null())
        .stdout(create(&out)?)
        .spawn()
        .map_err(|error| io(Path::new(command.get_program()), error))?;
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().map_err(|error| io(&out, error))? {
            break status;
        }
        if start.elapsed() > limit {
            // It may have ended by itself since; that error changes nothing.
            let _ = child.kill();
            let _ = child.wait();
            return Err(ChildError::TimedOut {
                program,
                limit,
                log: shown,
            });
        }
        std::thread::sleep(LOOK);
    };
    if !status.success() {
        let text = log.and_then(|log| std::fs::read_to_string(log).ok());
        let lines: Vec<&str> = text.iter().flat_map(|text| text.lines()).collect();
        let tail = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n");
        return Err(ChildError::Failed {
            program,
            status,
            log: shown,
            tail,
        });
    }
    let text = std::fs::read_to_string(&out).map_err(|error| io(&out, error))?;
    let last = last_object(&text);
    serde_json::from_str(last).map_err(|error| ChildError::Output {
        program,
        problem: format!("no JSON object at the end of its output: {error}"),
    })
}

fn name(command: &Command) -> String {
    Path::new(command.get_program())
        .file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

fn create(path: &Path) -> Result<File, ChildError> {
    File::create(path).map_err(|error| io(path, error))
}

/// The object at the end of `text`, in one line or several.
pub fn last_object(text: &str) -> &str {
    let text = text.trim_end();
    if text
        .lines()
        .next_back()
        .is_some_and(|line| line.starts_with('{'))
    {
        return text.lines().next_back().unwrap_or_default();
    }
    let start = text.rfind("\n{").map_or(0, |at| at + 1);
    &text[start..]
}

fn io(what: &Path, error: std::io::Error) -> ChildError {
    ChildError::Io {
        what: what.display().to_string(),
        error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limit: Duration) -> Result<Value, ChildError> {
        let folder =
            std::env::temp_dir().join(format!("stoq-bench-{:?}", std::thread::current().id()));
        std::fs::create_dir_all(&folder).unwrap();
        let result = run_json(Command::new("sh").args(["-c", script]), &folder, limit);
        std::fs::remove_dir_all(&folder).unwrap();
        result
    }

    #[test]
    fn the_object_at_the_end_counts() {
        let limit = Duration::from_secs(10);
        let one_line = shell("echo noise; echo '{\"a\": 1}'", limit).unwrap();
        assert_eq!(one_line["a"], 1);
        let lines = shell(
            "printf 'noise\\n{\\n  \"a\": {\\n    \"b\": 2\\n  }\\n}\\n'",
            limit,
        )
        .unwrap();
        assert_eq!(lines["a"]["b"], 2);
    }

    #[test]
    fn failures_say_what_happened() {
        let limit = Duration::from_secs(10);
        let failed = shell("echo the reason >&2; exit 3", limit).unwrap_err();
        assert!(failed.to_string().contains("the reason"), "{failed}");
        let silent = shell("true", limit).unwrap_err();
        assert!(matches!(silent, ChildError::Output { .. }), "{silent}");
        let slow = shell("exec sleep 60", Duration::from_millis(100)).unwrap_err();
        assert!(matches!(slow, ChildError::TimedOut { .. }), "{slow}");
    }
}
