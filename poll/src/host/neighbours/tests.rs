use super::*;

const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const OTHER: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

fn ip(last: u128) -> Ipv6Addr {
    Ipv6Addr::from(0xfd00 << 112 | last)
}

fn cache(max: usize) -> (Neighbours, Instant) {
    let hash = KeyedHash::new(&mut Random::new(1));
    (Neighbours::new(max, hash, 2), Instant::now())
}

fn keep_none(_: Ipv6Addr) -> bool {
    false
}

fn events(cache: &mut Neighbours, now: Instant) -> Vec<Event> {
    std::iter::from_fn(|| cache.next_event(now)).collect()
}

fn state(cache: &Neighbours, now: Instant, address: Ipv6Addr) -> Option<Reachability> {
    let info = cache.iter(now).find(|info| info.address == address)?;
    Some(info.reachability)
}

fn advertise(
    cache: &mut Neighbours,
    now: Instant,
    mac: MacAddr,
    solicited: bool,
    overrides: bool,
) -> bool {
    let mac = Some(mac);
    cache.advertised(
        now,
        ip(1),
        Advertised {
            mac,
            solicited,
            overrides,
        },
    )
}

/// A cache of four in which `ip(1)` is reachable under `MAC`.
fn with_reachable() -> (Neighbours, Instant) {
    let (mut cache, now) = cache(4);
    cache.resolve(now, ip(1), keep_none);
    assert!(advertise(&mut cache, now, MAC, true, true));
    assert_eq!(state(&cache, now, ip(1)), Some(Reachability::Reachable));
    (cache, now)
}

#[test]
fn three_solicitations_then_failure() {
    let (mut cache, start) = cache(4);
    assert_eq!(
        cache.resolve(start, ip(1), keep_none),
        Resolution::Waiting { first: true }
    );
    assert_eq!(
        cache.resolve(start, ip(1), keep_none),
        Resolution::Waiting { first: false }
    );
    let at = |seconds| start + Duration::from_secs(seconds);
    assert_eq!(events(&mut cache, start), []);
    assert_eq!(cache.due(), Some(at(1)));
    assert_eq!(events(&mut cache, at(1)), [Event::Solicit(ip(1))]);
    assert_eq!(events(&mut cache, at(1)), []);
    assert_eq!(events(&mut cache, at(2)), [Event::Solicit(ip(1))]);
    assert_eq!(events(&mut cache, at(3)), [Event::Failed(ip(1))]);
    assert_eq!(cache.iter(at(3)).count(), 0);
    assert_eq!(cache.due(), None);
    assert_eq!(
        cache.resolve(at(3), ip(1), keep_none),
        Resolution::Waiting { first: true }
    );
}

#[test]
fn reachable_becomes_stale_then_delay_then_probe_then_fails() {
    let (mut cache, start) = with_reachable();
    let Resolution::Ready { mac, until } = cache.resolve(start, ip(1), keep_none) else {
        panic!("not ready");
    };
    assert_eq!(mac, MAC);
    assert!((15..=45).contains(&(until - start).as_secs()));
    // The timer of the resolution is still armed; it finds nothing to do.
    assert_eq!(events(&mut cache, start + RETRANSMIT), []);
    assert_eq!(cache.due(), None);

    let now = until;
    assert_eq!(state(&cache, now, ip(1)), Some(Reachability::Stale));
    assert!(matches!(
        cache.resolve(now, ip(1), keep_none),
        Resolution::Ready { mac: MAC, .. }
    ));
    assert_eq!(state(&cache, now, ip(1)), Some(Reachability::Delay));
    for second in 5..8 {
        let now = now + Duration::from_secs(second);
        assert_eq!(events(&mut cache, now), [Event::Probe(ip(1), MAC)]);
        assert_eq!(state(&cache, now, ip(1)), Some(Reachability::Probe));
        assert!(matches!(
            cache.resolve(now, ip(1), keep_none),
            Resolution::Ready { mac: MAC, .. }
        ));
    }
    let now = now + Duration::from_secs(8);
    assert_eq!(events(&mut cache, now), [Event::Failed(ip(1))]);
}

#[test]
fn a_probe_that_is_answered_makes_it_reachable() {
    let (mut cache, start) = with_reachable();
    let now = start + Duration::from_secs(60);
    cache.resolve(now, ip(1), keep_none);
    let now = now + DELAY_FIRST_PROBE;
    assert_eq!(events(&mut cache, now), [Event::Probe(ip(1), MAC)]);
    assert!(!advertise(&mut cache, now, MAC, true, false));
    assert_eq!(state(&cache, now, ip(1)), Some(Reachability::Reachable));
    assert_eq!(events(&mut cache, now + RETRANSMIT), []);
}

#[test]
fn traffic_confirms_what_is_in_use_and_changes_no_mac() {
    let (mut cache, start) = with_reachable();
    let now = start + Duration::from_secs(60);
    // Not in use for a minute: what it sends proves nothing about what we send.
    assert!(!cache.heard(now, ip(1), MAC));
    assert_eq!(state(&cache, now, ip(1)), Some(Reachability::Stale));
    cache.resolve(now, ip(1), keep_none);
    assert!(!cache.heard(now, ip(1), OTHER));
    assert_eq!(state(&cache, now, ip(1)), Some(Reachability::Delay));
    assert!(!cache.heard(now, ip(1), MAC));
    assert_eq!(state(&cache, now, ip(1)), Some(Reachability::Reachable));
    assert!(!cache.heard(now, ip(1), OTHER));
    assert_eq!(cache.mac_of(ip(1)), Some(MAC));
    assert_eq!(events(&mut cache, now + DELAY_FIRST_PROBE), []);
}

#[test]
fn advertisements_follow_the_table_of_rfc_4861_appendix_c() {
    // Override clear, other MAC: reachable turns stale, the MAC stays.
    let (mut cache, now) = with_reachable();
    assert!(!advertise(&mut cache, now, OTHER, true, false));
    assert_eq!(state(&cache, now, ip(1)), Some(Reachability::Stale));
    assert_eq!(cache.mac_of(ip(1)), Some(MAC));
    // Override set, other MAC, unsolicited: taken over, stale.
    let (mut cache, now) = with_reachable();
    assert!(advertise(&mut cache, now, OTHER, false, true));
    assert_eq!(state(&cache, now, ip(1)), Some(Reachability::Stale));
    assert_eq!(cache.mac_of(ip(1)), Some(OTHER));
    // Override set, other MAC, solicited: taken over, reachable.
    let (mut cache, now) = with_reachable();
    assert!(advertise(&mut cache, now, OTHER, true, true));
    assert_eq!(state(&cache, now, ip(1)), Some(Reachability::Reachable));
    // Unsolicited, same MAC: nothing changes.
    let (mut cache, now) = with_reachable();
    assert!(!advertise(&mut cache, now, MAC, false, true));
    assert_eq!(state(&cache, now, ip(1)), Some(Reachability::Reachable));
    // Nobody asked: no entry.
    let (mut cache, now) = cache_of_four();
    assert!(!advertise(&mut cache, now, MAC, true, true));
    assert_eq!(cache.iter(now).count(), 0);
    // Incomplete, without a MAC address: nothing; unsolicited with one: stale.
    cache.resolve(now, ip(1), keep_none);
    let nothing = Advertised {
        mac: None,
        solicited: true,
        overrides: true,
    };
    assert!(!cache.advertised(now, ip(1), nothing));
    assert!(advertise(&mut cache, now, MAC, false, false));
    assert_eq!(state(&cache, now, ip(1)), Some(Reachability::Stale));
}

fn cache_of_four() -> (Neighbours, Instant) {
    cache(4)
}

#[test]
fn a_solicitation_with_another_mac_makes_it_stale() {
    let (mut cache, now) = with_reachable();
    assert!(!cache.learn(now, ip(1), MAC));
    assert_eq!(state(&cache, now, ip(1)), Some(Reachability::Reachable));
    assert!(cache.learn(now, ip(1), OTHER));
    assert_eq!(state(&cache, now, ip(1)), Some(Reachability::Stale));
}

#[test]
fn what_is_overheard_fills_free_slots_only() {
    let (mut cache, now) = with_reachable();
    for i in 2..10_000 {
        assert_eq!(cache.learn(now, ip(i), OTHER), i < 5);
        cache.heard(now, ip(i), OTHER);
    }
    assert_eq!(cache.iter(now).count(), 4);
    assert_eq!(cache.evicted, 0);
    assert_eq!(cache.mac_of(ip(1)), Some(MAC));
}

#[test]
fn what_is_needed_replaces_the_longest_unused_stale_entry() {
    let (mut cache, start) = with_reachable();
    for i in 2..5 {
        cache.learn(start + Duration::from_millis(10 - i as u64), ip(i), OTHER);
    }
    let now = start + Duration::from_millis(20);
    // ip(4) is the oldest, but is to be kept; then comes ip(3).
    let resolution = cache.resolve(now, ip(9), |address| address == ip(4));
    assert_eq!(resolution, Resolution::Waiting { first: true });
    assert_eq!(cache.mac_of(ip(3)), None);
    assert_eq!(
        cache.resolve(now, ip(10), keep_none),
        Resolution::Waiting { first: true }
    );
    assert_eq!(
        cache.resolve(now, ip(11), keep_none),
        Resolution::Waiting { first: true }
    );
    // Left are one reachable and three incomplete ones: none may go.
    assert_eq!(cache.resolve(now, ip(12), keep_none), Resolution::Full);
    assert_eq!(cache.evicted, 3);
    assert_eq!(cache.mac_of(ip(1)), Some(MAC));
}

#[test]
fn the_tables_keep_their_size_under_churn() {
    let (mut cache, mut now) = cache(16);
    let capacity = (
        cache.by_address.capacity(),
        cache.timed.capacity(),
        cache.slots.capacity(),
    );
    for i in 0..20_000 {
        cache.resolve(now, ip(i), keep_none);
        cache.advertised(
            now,
            ip(i),
            Advertised {
                mac: Some(MAC),
                solicited: false,
                overrides: true,
            },
        );
        events(&mut cache, now);
        now += Duration::from_millis(1);
        assert!(cache.timed.len() <= 16);
    }
    assert_eq!(cache.iter(now).count(), 16);
    assert_eq!(
        (
            cache.by_address.capacity(),
            cache.timed.capacity(),
            cache.slots.capacity()
        ),
        capacity
    );
}
