//! What the doctor found.

use std::fmt;

use serde::Serialize;

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// What was looked at, such as `hugepages` or `PCIe link`.
    pub topic: &'static str,
    /// What that means.
    pub verdict: Verdict,
    /// What was seen, or why it could not be.
    pub seen: String,
    /// What to do: commands and kernel arguments. Nothing when there is nothing to do.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub change: Vec<String>,
}

/// What a finding means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works, and would work better otherwise.
    Advice,
    /// The engine does not start, or does not send or receive, until this is changed.
    Problem,
    /// It could not be seen.
    Unknown,
}

impl Finding {
    /// As it should be.
    pub fn ok(topic: &'static str, seen: impl Into<String>) -> Self {
        Self::new(topic, Verdict::Ok, seen.into(), &[])
    }

    /// To be changed for more speed or steadier figures.
    pub fn advice(topic: &'static str, seen: impl Into<String>, change: &[&str]) -> Self {
        Self::new(topic, Verdict::Advice, seen.into(), change)
    }

    /// To be changed for the engine to run.
    pub fn problem(topic: &'static str, seen: impl Into<String>, change: &[&str]) -> Self {
        Self::new(topic, Verdict::Problem, seen.into(), change)
    }

    /// Not to be seen, and why.
    pub fn unknown(topic: &'static str, why: impl Into<String>) -> Self {
        Self::new(topic, Verdict::Unknown, why.into(), &[])
    }

    fn new(topic: &'static str, verdict: Verdict, seen: String, change: &[&str]) -> Self {
        Self {
            topic,
            verdict,
            seen,
            change: change.iter().map(|&line| line.to_owned()).collect(),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Advice => "advice",
            Self::Problem => "PROBLEM",
            Self::Unknown => "unknown",
        })
    }
}
