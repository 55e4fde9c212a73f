//! The question whether frames are held back until their time.

use std::time::{Duration, Instant};

use dpdk_sys as sys;

use super::cable::{Cable, NotSent, Outgoing};
use super::checks::{
    Answer, PAYLOAD, Question, lies, not_seen, nothing_arrived, ok, sends, untouched,
};
use super::frame;

/// How long a frame is held back.
const DELAY: Duration = Duration::from_millis(20);
/// How exactly that is to be kept on a quiet line.
const SLACK: Duration = Duration::from_micros(200);
/// Frames with a time, and as many without.
const PAIRS: usize = 8;

pub(super) fn hardware_pacing(cable: &Cable<'_>) -> Question {
    let port = cable.sender();
    let offered = sends(port, sys::RTE_ETH_TX_OFFLOAD_SEND_ON_TIMESTAMP);
    let in_force = port.offloads().pacing && cable.clock().is_some();
    let asked = format!("held back for {} ms", DELAY.as_millis());
    Question::new(
        port,
        "hardware_pacing",
        [offered, in_force],
        asked,
        |cable| {
            let [mut at_once, mut held] = [Vec::new(), Vec::new()];
            for _ in 0..PAIRS {
                at_once.extend(way(cable, None)?);
                held.extend(way(cable, Some(DELAY))?);
            }
            Ok(judged(at_once, held))
        },
    )
}

/// How long a frame takes that is held back for `delay`. Nothing if none arrives.
fn way(cable: &mut Cable<'_>, delay: Option<Duration>) -> Result<Option<Duration>, NotSent> {
    cable.ask();
    let outgoing = Outgoing {
        delay,
        ..untouched(cable, &frame::pattern(PAYLOAD))
    };
    let start = Instant::now();
    let seen = cable.exchange(&[outgoing], |seen| !seen.is_empty())?;
    Ok(seen.first().map(|first| first.at.duration_since(start)))
}

/// What to think of how long frames took: those with a time are to take longer by that, the quickest compared with the
/// quickest. What else holds frames up must be much less than the delay, or it cannot be told from it.
fn judged(mut at_once: Vec<Duration>, mut held: Vec<Duration>) -> Answer {
    at_once.sort_unstable();
    held.sort_unstable();
    let (Some(&quick), Some(&late)) = (at_once.first(), held.first()) else {
        return nothing_arrived();
    };
    let noise = at_once[at_once.len() / 4] - quick;
    let tolerance = SLACK + 2 * noise;
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    if tolerance > DELAY / 2 {
        return not_seen(format!("other frames differ by {:.3} ms, too", ms(noise)));
    }
    let longer = late.saturating_sub(quick);
    let seen = format!("left {:.3} ms later", ms(longer));
    match longer + tolerance >= DELAY && longer <= 2 * DELAY {
        true => ok(seen),
        false => lies(seen),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    fn verdict(at_once: &[u64], held: &[u64]) -> Verdict {
        let times = |ms: &[u64]| ms.iter().copied().map(Duration::from_millis).collect();
        judged(times(at_once), times(held)).1
    }

    #[test]
    fn a_slow_line_is_no_pacing() {
        assert_eq!(verdict(&[0, 0, 0, 9], &[20, 24, 20, 21]), Verdict::Ok);
        assert_eq!(
            verdict(&[500, 501, 500, 500], &[520, 520, 521]),
            Verdict::Ok
        );
        // What ignores the time, near and far.
        assert_eq!(verdict(&[0; 8], &[0, 1, 0, 0]), Verdict::Lies);
        assert_eq!(verdict(&[500; 8], &[500; 8]), Verdict::Lies);
        // Too early, and much too late.
        assert_eq!(verdict(&[0; 8], &[19; 8]), Verdict::Lies);
        assert_eq!(verdict(&[0; 8], &[50; 8]), Verdict::Lies);
        // A line of which nothing can be said.
        let noisy = [0, 7, 14, 21, 28, 35, 42, 49];
        assert_eq!(verdict(&noisy, &[20; 8]), Verdict::NotSeen);
        assert_eq!(verdict(&[1; 8], &[]), Verdict::Lies);
    }
}
