//! What a host does by itself when its time comes: duplicate address probes, router solicitations, listener reports,
//! the ends of addresses and routes, and the timers of the neighbour cache.

use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use super::addresses::Addresses;
use super::neighbours::Event;
use super::routes::Routes;
use super::{Host, HostRole};
use crate::deadline::{earlier, is_due};
use crate::random::Random;
use crate::wire::icmpv6::{Message, emit_listener_report};
use crate::wire::{ALL_ROUTERS, DropReason, MacAddr};

/// First messages on a link wait up to this long, so that hosts that start together do not speak together (RFC 4861
/// §10, RFC 4862 §5.4.2).
const START_DELAY: Duration = Duration::from_secs(1);
/// Router solicitations at start, and the time between them (RFC 4861 §10).
const ROUTER_SOLICITATIONS: u8 = 3;
const ROUTER_SOLICITATION_INTERVAL: Duration = Duration::from_secs(4);
/// How often joined groups are reported, and the longest time between the reports (RFC 3810 §9.1, §9.11).
const JOIN_REPORTS: u8 = 2;
const JOIN_REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// A delay of up to a second.
pub(super) fn start_jitter(random: &mut Random) -> Duration {
    random.between(Duration::ZERO, START_DELAY)
}

/// Deadlines of the host, those of the neighbour cache aside.
#[derive(Debug)]
pub(super) struct Schedule {
    router_solicitation_at: Option<Instant>,
    router_solicitations_left: u8,
    join_report_at: Option<Instant>,
    join_reports_left: u8,
    /// When a query is to be answered.
    answer_at: Option<Instant>,
    /// When an address is to be probed, or an address or route ends.
    upkeep_at: Option<Instant>,
    /// The earliest of all.
    due: Option<Instant>,
}

impl Schedule {
    pub(super) fn new(
        now: Instant,
        solicit_routers: bool,
        random: &mut Random,
        addresses: &Addresses,
    ) -> Self {
        let mut schedule = Self {
            router_solicitation_at: solicit_routers.then(|| now + start_jitter(random)),
            router_solicitations_left: ROUTER_SOLICITATIONS,
            join_report_at: Some(now),
            join_reports_left: JOIN_REPORTS,
            answer_at: None,
            upkeep_at: addresses.due(),
            due: None,
        };
        schedule.update();
        schedule
    }

    /// That of a host which speaks to nobody by itself: only addresses and routes end.
    pub(super) fn silent(addresses: &Addresses) -> Self {
        Self {
            router_solicitation_at: None,
            router_solicitations_left: 0,
            join_report_at: None,
            join_reports_left: 0,
            answer_at: None,
            upkeep_at: addresses.due(),
            due: addresses.due(),
        }
    }

    #[inline]
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Takes over new deadlines of addresses and routes.
    pub(super) fn refresh(&mut self, addresses: &Addresses, routes: &Routes) {
        self.upkeep_at = earlier(addresses.due(), routes.due());
        self.update();
    }

    /// A router wants to know the groups listened to: within a random part of `within` (RFC 3810 §6.2). One answer
    /// serves all queries until then, which also bounds their rate.
    pub(super) fn listener_query(&mut self, now: Instant, within: Duration, random: &mut Random) {
        let at = now + random.between(Duration::ZERO, within);
        self.answer_at = earlier(self.answer_at, Some(at));
        self.update();
    }

    /// Groups were joined: they are to be reported now and once more.
    pub(super) fn groups_joined(&mut self, now: Instant) {
        self.join_report_at = Some(now);
        self.join_reports_left = JOIN_REPORTS;
        self.update();
    }

    /// A router is known, no more need to be asked (RFC 4861 §6.3.7).
    pub(super) fn stop_router_solicitations(&mut self) {
        self.router_solicitation_at = None;
        self.update();
    }

    fn update(&mut self) {
        let spoken = earlier(self.router_solicitation_at, self.join_report_at);
        self.due = earlier(spoken, earlier(self.answer_at, self.upkeep_at));
    }
}

impl Host {
    /// Does what is due.
    #[inline]
    pub(super) fn run_timers(&mut self, now: Instant) {
        if is_due(self.schedule.due, now) {
            self.run_schedule(now);
        }
        if is_due(self.neighbours.due(), now) {
            self.run_neighbours(now);
        }
    }

    #[inline(never)]
    fn run_schedule(&mut self, now: Instant) {
        if is_due(self.schedule.join_report_at, now) {
            self.report_groups(true);
            self.schedule.join_reports_left = self.schedule.join_reports_left.saturating_sub(1);
            let again = self.schedule.join_reports_left > 0;
            let pause = self.random.between(Duration::ZERO, JOIN_REPORT_INTERVAL);
            self.schedule.join_report_at = again.then(|| now + pause);
        }
        if is_due(self.schedule.answer_at, now) {
            self.report_groups(false);
            self.schedule.answer_at = None;
        }
        if is_due(self.schedule.router_solicitation_at, now) {
            self.solicit_routers();
            let left = self.schedule.router_solicitations_left.saturating_sub(1);
            self.schedule.router_solicitations_left = left;
            let next = now + ROUTER_SOLICITATION_INTERVAL;
            self.schedule.router_solicitation_at = (left > 0).then_some(next);
        }
        if is_due(self.schedule.upkeep_at, now) {
            while let Some(address) = self.addresses.next_probe(now) {
                // One probe a port; the others only keep step.
                if self.role == HostRole::Primary {
                    self.probe_duplicate(address);
                }
            }
            if self.addresses.expire(now) {
                self.multicast_generation += 1;
            }
            self.routes.expire(now);
            self.forget_routes();
        }
        self.schedule.refresh(&self.addresses, &self.routes);
    }

    #[inline(never)]
    fn run_neighbours(&mut self, now: Instant) {
        // With many due at once, the others wait until these frames have been sent: they stay due.
        while self.frames.is_calm() {
            match self.neighbours.next_event(now) {
                Some(event) => self.neighbour_event(now, event),
                None => return,
            }
        }
    }

    fn neighbour_event(&mut self, now: Instant, event: Event) {
        match event {
            Event::Solicit(address) => self.solicit(now, address, None),
            Event::Probe(address, mac) => self.solicit(now, address, Some(mac)),
            Event::Failed(address) => {
                self.counters.neighbours_failed += 1;
                let dropped = self.waiting.fail(address);
                self.drops
                    .count_many(DropReason::TxNeighbourUnreachable, dropped);
                self.routes.unreachable(address);
                self.forget_routes();
            }
        }
    }

    fn solicit_routers(&mut self) {
        let source_mac = Some(self.mac);
        let message = Message::RouterSolicitation { source_mac };
        let group_mac = MacAddr::of_multicast(ALL_ROUTERS);
        if self.send_nd(self.mac.link_local(), ALL_ROUTERS, group_mac, &message) {
            self.counters.router_solicitations_sent += 1;
        }
    }

    fn report_groups(&mut self, joined: bool) {
        let (mac, source) = (self.mac, self.mac.link_local());
        let groups: Vec<Ipv6Addr> = self.addresses.groups().to_vec();
        if self.send(|frame| emit_listener_report(frame, mac, source, joined, &groups)) {
            self.counters.listener_reports_sent += 1;
        }
    }
}
