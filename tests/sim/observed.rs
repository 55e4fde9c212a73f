//! What counters say of connections while they live.

use std::time::Duration;

use stoq::shard::{Buckets, ShardCounters};

use crate::apps::{Client, Log, Request, Server};
use crate::net::{Link, Net, Setup, ready};

const MIB: u64 = 1 << 20;
const SECOND: Duration = Duration::from_secs(1);

/// Connections that handshake, that are open, and that are closing.
fn states(counters: &ShardCounters) -> [u64; 3] {
    let handshaking = counters.connections_handshaking.get();
    let closing = counters.connections_closing.get();
    let open = counters.connections_current.get() - handshaking - closing;
    [handshaking, open, closing]
}

/// A server, and a client with three connections that each make the requests.
fn net(link: Link, requests: Vec<Request>) -> (Net, Log) {
    let (setup, log) = (Setup::default(), Log::default());
    let mut net = Net::new(link);
    net.add(setup.server("test", Server::new(&Log::default())));
    let mut client = Client::new(&log, setup.target("test"), requests);
    client.connections = 3;
    net.add(setup.clients(vec![ready(client)]));
    (net, log)
}

#[test]
fn connections_pass_through_their_states() {
    let (mut net, log) = net(Link::default(), vec![Request::download(1000)]);
    let (server, client) = (net.counters(0), net.counters(1));
    net.run_until(SECOND, |_| server.connections_current.get() == 3);
    assert_eq!(states(&server), [3, 0, 0]);
    assert_eq!(states(&client), [3, 0, 0]);
    assert_eq!(client.rtt.counts().iter().sum::<u64>(), 0);

    net.run_until(SECOND, |_| log.lock().completed.len() == 3);
    assert_eq!(states(&server), [0, 3, 0]);
    assert_eq!(states(&client), [0, 3, 0]);
    let known = client.rtt.counts().iter().sum::<u64>();
    assert!(known >= 3, "{known}");

    net.stop(1);
    net.run_until(SECOND, |_| states(&server)[2] == 3);
    assert_eq!(states(&client), [0, 0, 3]);
    net.run_for(10 * SECOND);
    assert_eq!(states(&server), [0; 3]);
    assert_eq!(states(&client), [0; 3]);
    assert!(client.rtt.counts().iter().sum::<u64>() >= known + 3);
}

#[test]
fn round_trip_times_are_those_of_the_link() {
    let (mut net, log) = net(Link::default(), vec![Request::download(MIB)]);
    net.run_until(10 * SECOND, |_| log.lock().completed.len() == 3);
    net.run_for(SECOND);
    for node in [0, 1] {
        let rtt = &net.counters(node).rtt;
        // 5 ms each way, and the peer's delays on top. Three connections, seen again while they live.
        let counts = rtt.counts();
        let times = counts.iter().sum::<u64>();
        assert!(times > 20, "{counts:?}");
        for (index, count) in counts.into_iter().enumerate() {
            let in_range = Buckets::bound(index).is_some_and(|bound| {
                (Duration::from_millis(10)..=Duration::from_millis(140)).contains(&bound)
            });
            assert!(count == 0 || in_range, "{counts:?}");
        }
        assert!(rtt.sum() >= Duration::from_millis(10) * times as u32);
    }
}

#[test]
fn losses_are_known_while_the_connection_lives() {
    let link = Link {
        loss: 0.02,
        ..Link::default()
    };
    let (mut net, log) = net(link, vec![Request::download(2 * MIB)]);
    net.run_until(60 * SECOND, |_| log.lock().completed.len() == 3);
    net.run_for(SECOND);
    let server = net.counters(0);
    assert_eq!(states(&server), [0, 3, 0]);
    let (lost, events) = (server.lost_packets.get(), server.congestion_events.get());
    assert!(lost > 10 && events > 1, "{lost} {events}");
    assert!(server.mtu.get() > 1200);
    // All connections at once say the same.
    net.shard(0).publish();
    assert_eq!(server.lost_packets.get(), lost);
    assert_eq!(server.congestion_events.get(), events);
}

#[test]
fn a_server_that_is_silent_is_a_failed_handshake() {
    let link = Link {
        loss: 1.0,
        ..Link::default()
    };
    let (mut net, log) = net(link, vec![Request::download(1)]);
    net.run_until(120 * SECOND, |_| log.lock().closed.len() == 3);
    let client = net.counters(1);
    assert_eq!(client.connects_failed.get(), 3);
    assert_eq!(client.connections_handshaking.get(), 0);
    assert_eq!(client.handshakes_failed.get(), 0);
    assert_eq!(client.rtt.counts().iter().sum::<u64>(), 0);
}
