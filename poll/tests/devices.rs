//! What ports say of their devices, on a real EAL with `net_null` and a link. One process, one EAL: one test.

use std::net::{Ipv6Addr, SocketAddrV6};

use hugepages::{Burst, Mempool, MempoolConfig};
use poll::offload::OffloadConfig;
use poll::{
    BURST, DEFAULT_RSS_KEY, Eal, Port, PortConfig, PortError, PortInfo, Rss, link, link_info,
    toeplitz,
};

const CLIENT: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x5701, 0, 0, 0, 0, 0, 2);
const SERVER: SocketAddrV6 =
    SocketAddrV6::new(Ipv6Addr::new(0xfd00, 0x5701, 0, 0, 0, 0, 0, 1), 4433, 0, 0);

fn config(pool: Mempool, queues: u16, rss_key: Option<Vec<u8>>) -> PortConfig {
    PortConfig {
        mtu: 1500,
        queues,
        rx_descriptors: 256,
        tx_descriptors: 256,
        pool,
        tx_pool: pool,
        offload: OffloadConfig::default(),
        rss_key,
    }
}

/// The null driver has a table of 128 entries, a key of 40 bytes, and gives back what was set.
fn rss(eal: &Eal, pool: Mempool) {
    let open = |queues, key| {
        let config = config(pool, queues, key);
        Port::open(eal, "net_null0", &config)
            .expect("the null device opens")
            .0
    };
    let port = open(4, None);
    assert_eq!(port.info().rss_table, 128);
    let rss = port.rss().expect("several queues, and a device with RSS");
    assert_eq!(rss.key, DEFAULT_RSS_KEY[..40]);
    assert_eq!(rss.table.len(), 128);
    let share = |queue| rss.table.iter().filter(|entry| **entry == queue).count();
    assert_eq!([0, 1, 2, 3, 4].map(share), [32, 32, 32, 32, 0]);
    assert_eq!(poll::rss_type_names(rss.types), ["ipv6-udp"]);
    spread(rss);
}

/// Client ports spread over the queues, and the queue is the one that hash and table say.
fn spread(rss: &Rss) {
    let mut flows = [0; 4];
    for udp_port in 0..=u16::MAX {
        let client = SocketAddrV6::new(CLIENT, udp_port, 0, 0);
        let queue = rss.queue(client, SERVER);
        let hash = toeplitz(&rss.key, client, SERVER);
        assert_eq!(queue, rss.table[(hash % 128) as usize]);
        flows[usize::from(queue)] += 1;
    }
    // A quarter each: the hash is linear in the port.
    assert_eq!(flows, [1 << 14; 4], "flows a queue");
}

/// A queue, or a device without RSS, has none; a key is cut or repeated to the length the device takes.
fn keys(eal: &Eal, pool: Mempool) {
    let key: Vec<u8> = (1..=24).collect();
    let two = config(pool, 2, Some(key.clone()));
    let (port, _queues) = Port::open(eal, "net_null1", &two).expect("the null device opens");
    let rss = port.rss().expect("two queues");
    assert_eq!(rss.key, [&key[..], &key[..16]].concat());

    let three = config(pool, 3, Some(vec![7; 64]));
    let (port, _queues) = Port::open(eal, "net_null2", &three).expect("the null device opens");
    let rss = port.rss().expect("three queues");
    assert_eq!(rss.key, [7; 40]);
    assert_eq!(&rss.table[..6], [0, 1, 2, 0, 1, 2]);

    let one = config(pool, 1, None);
    let (port, _queues) = Port::open(eal, "net_null3", &one).expect("the null device opens");
    assert_eq!(port.rss(), None);

    let config = config(pool, 2, Some(key));
    let [(left, _), (right, _)] = link(eal, ["l", "r"], [&config, &config]).expect("a link");
    assert_eq!((left.rss(), right.rss()), (None, None));
    let (told, foretold) = (left.info(), link_info("l", 2));
    let all = |info: &PortInfo| PortInfo {
        id: foretold.id,
        numa_node: None,
        ..info.clone()
    };
    assert_eq!(format!("{:?}", all(told)), format!("{foretold:?}"));
}

/// Control calls from several threads, while a queue is polled.
fn statistics(eal: &Eal, pool: Mempool) {
    let config = config(pool, 2, None);
    let (port, mut queues) = Port::open(eal, "net_null4", &config).expect("the null device opens");
    assert!(port.link().up);
    let received = std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..200 {
                    assert!(port.link().up);
                    assert!(!port.xstats().is_empty());
                    let _ = port.stats();
                }
            });
        }
        let queue = &mut queues[1];
        let (mut burst, mut received) = (Burst::<BURST>::new(), 0);
        for _ in 0..1000 {
            received += queue.rx.rx_burst(&mut burst);
            burst.clear();
        }
        received as u64
    });
    assert_eq!(
        received,
        1000 * BURST as u64,
        "the null device is never empty"
    );
    assert_eq!(port.stats().rx_frames, received);
    let xstats = port.xstats();
    let value = |name: &str| {
        let found = xstats.iter().find(|(given, _)| given == name);
        found.unwrap_or_else(|| panic!("no {name} in {xstats:?}")).1
    };
    assert_eq!(value("rx_good_packets"), received);
    assert_eq!(
        (value("rx_q0_packets"), value("rx_q1_packets")),
        (0, received)
    );
}

#[test]
fn ports_say_what_their_devices_do() {
    let mut args: Vec<String> = [
        "-l",
        "0",
        "--no-huge",
        "-m",
        "128",
        "--no-pci",
        "--no-shconf",
        "--no-telemetry",
    ]
    .map(String::from)
    .to_vec();
    args.extend((0..5).map(|number| format!("--vdev=net_null{number}")));
    let eal = Eal::start(&args).expect("EAL starts without huge pages");
    let config = MempoolConfig {
        name: "devices".to_owned(),
        mbufs: 8191,
        cache: 128,
        data_room: 2048 + 128,
        numa_node: None,
    };
    let pool = Mempool::create(eal.up(), &config).expect("a pool");
    assert_eq!(poll::ports(&eal).len(), 5);

    rss(&eal, pool);
    keys(&eal, pool);
    statistics(&eal, pool);

    let missing = Port::open(&eal, "net_null9", &self::config(pool, 1, None));
    assert!(matches!(missing, Err(PortError::NoDevice { .. })));
    assert_eq!(pool.in_use(), 0);
    eal.cleanup().expect("every port is closed");
}
