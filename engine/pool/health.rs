//! Whether a connection still answers.

use std::time::Instant;

use super::config::Health;

/// A connection is given up after so many looks. With one, a pause of the process would look like a silent peer.
const LOOKS: u32 = 2;

/// What is known of one connection's health.
#[derive(Debug)]
pub(super) struct Checkup {
    /// Datagrams received when it was last looked at.
    received: u64,
    /// When it was asked for its figures, while they are not there.
    asked: Option<Instant>,
    /// They were due once already.
    overdue: bool,
    /// When it was sent a PING frame, while nothing was received since.
    pinged: Option<Instant>,
    /// How often nothing had come of it.
    silent: u32,
    /// When to look again.
    next: Instant,
}

/// What to do about a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Advice {
    Nothing,
    /// Ask for its figures.
    Ask,
    /// Send a PING frame.
    Ping,
    /// It does not answer.
    GiveUp,
}

impl Checkup {
    pub fn new(now: Instant, health: &Health) -> Self {
        Self {
            received: 0,
            asked: None,
            overdue: false,
            pinged: None,
            silent: 0,
            next: now + health.interval,
        }
    }

    /// When [`look`](Self::look) is due.
    pub fn due(&self, health: &Health) -> Instant {
        match self.asked {
            Some(asked) => asked + health.deadline,
            None => self.next,
        }
    }

    /// Time has passed.
    pub fn look(&mut self, now: Instant, health: &Health) -> Advice {
        if now < self.due(health) {
            Advice::Nothing
        } else if self.asked.is_some() {
            // The shard itself did not answer.
            self.asked = Some(now);
            match std::mem::replace(&mut self.overdue, true) {
                true => Advice::GiveUp,
                false => Advice::Nothing,
            }
        } else {
            self.asked = Some(now);
            Advice::Ask
        }
    }

    /// Its figures are there: so many datagrams were received.
    pub fn answered(&mut self, now: Instant, received: u64, health: &Health) -> Advice {
        (self.asked, self.overdue) = (None, false);
        if received != self.received {
            self.received = received;
            self.pinged = None;
            self.next = now + health.interval;
            return Advice::Nothing;
        }
        self.next = now + health.interval.min(health.deadline / 2);
        let Some(pinged) = self.pinged else {
            (self.pinged, self.silent) = (Some(now), 0);
            return Advice::Ping;
        };
        self.silent += 1;
        match now.duration_since(pinged) >= health.deadline && self.silent >= LOOKS {
            true => Advice::GiveUp,
            false => Advice::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn checkup() -> (Instant, Health, Checkup) {
        let start = Instant::now();
        let health = Health::default().interval(15 * SECOND).deadline(5 * SECOND);
        (start, health, Checkup::new(start, &health))
    }

    #[test]
    fn one_that_receives_is_left_alone() {
        let (start, health, mut checkup) = checkup();
        for round in 1..10 {
            let now = start + round * 15 * SECOND;
            assert_eq!(checkup.look(now - SECOND, &health), Advice::Nothing);
            assert_eq!(checkup.look(now, &health), Advice::Ask);
            assert_eq!(
                checkup.answered(now, u64::from(round), &health),
                Advice::Nothing
            );
        }
    }

    #[test]
    fn a_quiet_one_is_pinged_and_an_answer_is_enough() {
        let (start, health, mut checkup) = checkup();
        let mut now = start + 15 * SECOND;
        assert_eq!(checkup.look(now, &health), Advice::Ask);
        assert_eq!(checkup.answered(now, 3, &health), Advice::Nothing);
        now += 15 * SECOND;
        assert_eq!(checkup.look(now, &health), Advice::Ask);
        assert_eq!(checkup.answered(now, 3, &health), Advice::Ping);
        assert_eq!(checkup.look(now + 2 * SECOND, &health), Advice::Nothing);
        now += 5 * SECOND / 2;
        assert_eq!(checkup.look(now, &health), Advice::Ask);
        assert_eq!(checkup.answered(now, 4, &health), Advice::Nothing);
        assert_eq!(checkup.due(&health), now + 15 * SECOND);
    }

    #[test]
    fn one_that_does_not_answer_is_given_up_at_the_deadline() {
        let (start, health, mut checkup) = checkup();
        let now = start + 15 * SECOND;
        assert_eq!(checkup.look(now, &health), Advice::Ask);
        assert_eq!(checkup.answered(now, 0, &health), Advice::Ping);
        let half = now + 5 * SECOND / 2;
        assert_eq!(checkup.look(half, &health), Advice::Ask);
        assert_eq!(checkup.answered(half, 0, &health), Advice::Nothing);
        let end = now + 5 * SECOND;
        assert_eq!(checkup.look(end, &health), Advice::Ask);
        assert_eq!(checkup.answered(end, 0, &health), Advice::GiveUp);
    }

    #[test]
    fn a_pause_of_the_process_is_no_silence_of_the_peer() {
        let (start, health, mut checkup) = checkup();
        let mut now = start + 15 * SECOND;
        assert_eq!(checkup.look(now, &health), Advice::Ask);
        assert_eq!(checkup.answered(now, 0, &health), Advice::Ping);
        // The pause, after which the answer to the ping is still to be read.
        now += 100 * SECOND;
        assert_eq!(checkup.look(now, &health), Advice::Ask);
        assert_eq!(checkup.answered(now, 0, &health), Advice::Nothing);
        now += 5 * SECOND / 2;
        assert_eq!(checkup.look(now, &health), Advice::Ask);
        // Another one, while the shard was asked.
        now += 100 * SECOND;
        assert_eq!(checkup.look(now, &health), Advice::Nothing);
        assert_eq!(checkup.answered(now, 1, &health), Advice::Nothing);
    }

    #[test]
    fn a_deadline_of_several_intervals_is_not_waited_out() {
        let (start, health, mut checkup) = checkup();
        let health = health.interval(SECOND).deadline(3 * SECOND);
        let mut now = start + 15 * SECOND;
        assert_eq!(checkup.look(now, &health), Advice::Ask);
        assert_eq!(checkup.answered(now, 0, &health), Advice::Ping);
        for expected in [Advice::Nothing, Advice::Nothing, Advice::GiveUp] {
            now += SECOND;
            assert_eq!(checkup.look(now, &health), Advice::Ask);
            assert_eq!(checkup.answered(now, 0, &health), expected);
        }
    }

    #[test]
    fn so_is_one_whose_shard_does_not_tell_its_figures() {
        let (start, health, mut checkup) = checkup();
        let now = start + 15 * SECOND;
        assert_eq!(checkup.look(now, &health), Advice::Ask);
        assert_eq!(checkup.look(now + 4 * SECOND, &health), Advice::Nothing);
        assert_eq!(checkup.look(now + 5 * SECOND, &health), Advice::Nothing);
        assert_eq!(checkup.look(now + 9 * SECOND, &health), Advice::Nothing);
        assert_eq!(checkup.look(now + 10 * SECOND, &health), Advice::GiveUp);
    }
}
