//! The plan as people and programs read it.

use super::*;

#[test]
fn the_plan_is_shown_as_tables_and_as_json() {
    let plan = base();
    let text = plan.to_string();
    for expected in [
        "port   kind            MTU  queues  steering   rx desc  tx desc  mbufs  low mark  data room  burst  tx path   addresses\n",
        "tap    net_tap0       1500       1  one queue     1024     1024   6592      1152       2176     32  in place  fd00:1::1/64, link-local, gateway fe80::1\n",
        "server   left       0      0  adaptive          1        0\n",
        "other     outside  [::]:4433  own       nothing       echo with 0-RTT\n",
    ] {
        assert!(text.contains(expected), "{expected}\nis not in\n{text}");
    }
    let json = serde_json::to_value(&plan).unwrap();
    assert_eq!(json["run"]["duration_s"], 10.0);
    assert_eq!(json["ports"][0]["kind"]["link"]["peer"], 1);
    assert_eq!(
        json["shards"][2]["listeners"][0]["services"][0]["echo"]["early_data"],
        true
    );
}
