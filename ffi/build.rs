//! Finds libdpdk, checks its version, compiles the shim and generates the bindings.

use std::env;
use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::process;

use bindgen::callbacks::{ItemInfo, ParseCallbacks};

/// Oldest release the bindings are written for: the 22.11 LTS.
const OLDEST: (u32, u32) = (22, 11);
/// Newest release they are written for: the 25.11 LTS, with all its point releases.
const NEWEST: (u32, u32) = (25, 11);

/// DPDK functions that may be called. Those DPDK only has as inline functions are in `shim.c`
/// (`stoq_*`).
const FUNCTIONS: &[&str] = &[
    "stoq_.*",
    // EAL: life cycle, versions, errors, logs.
    "rte_eal_init",
    "rte_eal_cleanup",
    "rte_eal_has_hugepages",
    "rte_eal_process_type",
    "rte_version",
    "rte_get_tsc_hz",
    "rte_strerror",
    "rte_log_set_global_level",
    "rte_log_get_global_level",
    "rte_openlog_stream",
    // EAL: lcores.
    "rte_eal_remote_launch",
    "rte_eal_wait_lcore",
    "rte_eal_get_lcore_state",
    "rte_lcore_count",
    "rte_lcore_is_enabled",
    "rte_get_next_lcore",
    "rte_get_main_lcore",
    "rte_lcore_to_socket_id",
    "rte_lcore_to_cpu_id",
    "rte_lcore_cpuset",
    // EAL: memory and NUMA nodes.
    "rte_socket_count",
    "rte_socket_id_by_idx",
    "rte_malloc_get_socket_stats",
    "rte_mem_check_dma_mask",
    // EAL: devices that come and go.
    "rte_dev_probe",
    "rte_dev_remove",
    "rte_dev_name",
    "rte_dev_bus_info",
    "rte_eal_hotplug_add",
    "rte_eal_hotplug_remove",
    // Packet memory.
    "rte_pktmbuf_pool_create",
    "rte_pktmbuf_pool_create_by_ops",
    "rte_mempool_mem_iter",
    "rte_mempool_obj_iter",
    "rte_mempool_avail_count",
    "rte_mempool_in_use_count",
    "rte_mempool_free",
    "rte_mempool_lookup",
    "rte_ring_create",
    "rte_ring_free",
    // Ports.
    "rte_eth_from_rings",
    "rte_eth_find_next",
    "rte_eth_dev_is_valid_port",
    "rte_eth_dev_count_avail",
    "rte_eth_dev_count_total",
    "rte_eth_dev_get_port_by_name",
    "rte_eth_dev_get_name_by_port",
    "rte_eth_dev_socket_id",
    "rte_eth_dev_info_get",
    "rte_eth_dev_adjust_nb_rx_tx_desc",
    "rte_eth_dev_configure",
    "rte_eth_rx_queue_setup",
    "rte_eth_tx_queue_setup",
    "rte_eth_dev_start",
    "rte_eth_dev_stop",
    "rte_eth_dev_close",
    "rte_eth_dev_get_mtu",
    "rte_eth_dev_set_mtu",
    "rte_eth_macaddr_get",
    "rte_eth_promiscuous_enable",
    "rte_eth_promiscuous_disable",
    "rte_eth_promiscuous_get",
    "rte_eth_allmulticast_enable",
    "rte_eth_allmulticast_disable",
    "rte_eth_allmulticast_get",
    "rte_eth_dev_set_mc_addr_list",
    "rte_eth_link_speed_to_str",
    "rte_eth_stats_get",
    "rte_eth_stats_reset",
    "rte_eth_xstats_get",
    "rte_eth_xstats_get_names",
    "rte_eth_tx_done_cleanup",
    "rte_eth_dev_rss_reta_query",
    "rte_eth_dev_rss_reta_update",
    "rte_eth_dev_rss_hash_conf_get",
    "rte_eth_dev_rss_hash_update",
    "rte_eth_dev_rx_offload_name",
    "rte_eth_dev_tx_offload_name",
    // Experimental in 22.11: its signature may change with a release, and is checked by the compiler.
    "rte_eth_read_clock",
    "rte_mbuf_dyn_tx_timestamp_register",
    // Telemetry.
    "rte_telemetry_register_cmd",
    "rte_tel_data_start_array",
    "rte_tel_data_start_dict",
    "rte_tel_data_string",
    "rte_tel_data_add_array_string",
    "rte_tel_data_add_array_container",
    "rte_tel_data_add_dict_string",
    "rte_tel_data_add_dict_container",
    "rte_tel_data_alloc",
    "rte_tel_data_free",
];

/// Types that are needed by name; those the functions mention follow by themselves.
const TYPES: &[&str] = &[
    "rte_eth_conf",
    "rte_eth_dev_info",
    "rte_eth_rss_conf",
    "rte_eth_rss_reta_entry64",
    "rte_eth_rxconf",
    "rte_eth_stats",
    "rte_eth_txconf",
    "rte_eth_xstat",
    "rte_eth_xstat_name",
    "rte_ether_addr",
    "rte_lcore_state_t",
    "rte_malloc_socket_stats",
    "rte_mbuf",
    "rte_mempool",
    "rte_mempool_memhdr",
    "rte_ring",
];

/// Types whose fields Rust must not name, because they move between releases.
const OPAQUE: &[&str] = &[
    "rte_mbuf",
    "rte_mempool",
    "rte_ring",
    "rte_device",
    "rte_bus",
    "rte_memzone",
    "_IO_FILE",
];

fn main() {
    for input in ["build.rs", "constants.h", "shim.c", "shim.h", "wrapper.h"] {
        println!("cargo::rerun-if-changed={input}");
    }
    let dpdk = find_dpdk();
    compile_shim(&dpdk);
    generate_bindings(&dpdk);
    link_extra_libraries();
    println!("cargo::rustc-env=DPDK_VERSION={}", dpdk.version);
    println!("cargo::metadata=version={}", dpdk.version);
}

/// Probes libdpdk and prints the link arguments pkg-config gives for it.
fn find_dpdk() -> Dpdk {
    // The cflags carry `-include rte_config.h` and `-march=…`, which the probe's parsed form drops.
    let version = match pkg_config::Config::new()
        .cargo_metadata(false)
        .probe("libdpdk")
    {
        Ok(library) => library.version,
        Err(pkg_config::Error::Command { cause, .. }) => stop(&format!(
            "pkg-config cannot be run: {cause}: apt-get install pkg-config"
        )),
        Err(_) => stop(&format!(
            "libdpdk not found: apt-get install libdpdk-dev, or set PKG_CONFIG_PATH to the pkgconfig \
             folder of a DPDK {}.{:02} .. {}.{:02} installation",
            OLDEST.0, OLDEST.1, NEWEST.0, NEWEST.1
        )),
    };
    match release(&version) {
        Some(release) if (OLDEST..=NEWEST).contains(&release) => {}
        _ => stop(&format!(
            "libdpdk {version} is out of range: this crate is written for {}.{:02} up to and \
             including {}.{:02}.x; install one of those releases (apt-get install libdpdk-dev) or point \
             PKG_CONFIG_PATH at one",
            OLDEST.0, OLDEST.1, NEWEST.0, NEWEST.1
        )),
    }
    if let Err(error) = pkg_config::Config::new().probe("libdpdk") {
        stop(&format!(
            "libdpdk cannot be linked: {}",
            one_line(&error.to_string())
        ));
    }
    Dpdk {
        version,
        cflags: cflags(),
    }
}

struct Dpdk {
    version: String,
    cflags: Vec<String>,
}

/// The compiler flags exactly as pkg-config prints them.
fn cflags() -> Vec<String> {
    println!("cargo::rerun-if-env-changed=PKG_CONFIG");
    let program = env::var("PKG_CONFIG").unwrap_or_else(|_| "pkg-config".to_owned());
    match process::Command::new(&program)
        .args(["--cflags", "libdpdk"])
        .output()
    {
        Ok(output) if output.status.success() => {
            let flags = String::from_utf8_lossy(&output.stdout).into_owned();
            flags.split_whitespace().map(str::to_owned).collect()
        }
        Ok(output) => stop(&format!(
            "{program} --cflags libdpdk failed: {}",
            one_line(&String::from_utf8_lossy(&output.stderr))
        )),
        Err(error) => stop(&format!(
            "{program} cannot be run: {error}: apt-get install pkg-config"
        )),
    }
}

fn compile_shim(dpdk: &Dpdk) {
    let mut build = cc::Build::new();
    build
        .file("shim.c")
        .opt_level(3)
        .std("gnu11")
        .warnings(true)
        .extra_warnings(false);
    for flag in &dpdk.cflags {
        build.flag(flag);
    }
    if let Err(error) = build.try_compile("stoq_shim") {
        stop(&format!(
            "shim.c does not compile: {}",
            one_line(&error.to_string())
        ));
    }
}

fn generate_bindings(dpdk: &Dpdk) {
    let mut builder = bindgen::Builder::default()
        .header("wrapper.h")
        .clang_args(&dpdk.cflags)
        .rust_edition(bindgen::RustEdition::Edition2024)
        .use_core()
        .derive_default(false)
        .generate_comments(false)
        .prepend_enum_name(false)
        .default_enum_style(bindgen::EnumVariation::Consts)
        .merge_extern_blocks(true)
        .wrap_unsafe_ops(true)
        .parse_callbacks(Box::new(StripPrefix))
        .allowlist_var("stoq_const_.*");
    for name in FUNCTIONS {
        builder = builder.allowlist_function(name);
    }
    for name in TYPES {
        builder = builder.allowlist_type(name);
    }
    for name in OPAQUE {
        builder = builder.opaque_type(name);
    }
    // bindgen panics, rather than returns, when there is no libclang to load. The sentence below
    // says so.
    panic::set_hook(Box::new(|_| ()));
    let generated = panic::catch_unwind(AssertUnwindSafe(|| builder.generate()));
    let _ = panic::take_hook();
    let bindings = match generated {
        Ok(Ok(bindings)) => bindings,
        Ok(Err(error)) => stop(&format!(
            "bindgen cannot read the DPDK headers: {}",
            one_line(&error.to_string())
        )),
        Err(cause) => {
            let cause = cause.downcast_ref::<String>().map_or("", String::as_str);
            stop(&format!(
                "bindgen cannot run, most likely for want of libclang: apt-get install libclang-dev \
                 clang ({})",
                one_line(cause)
            ))
        }
    };
    let Some(out) = env::var_os("OUT_DIR").map(PathBuf::from) else {
        stop("OUT_DIR is not set: run this through cargo");
    };
    if let Err(error) = bindings.write_to_file(out.join("bindings.rs")) {
        stop(&format!(
            "bindings.rs cannot be written to {}: {error}",
            out.display()
        ));
    }
}

/// pkg-config lists DPDK's libraries but no driver, since EAL loads drivers as plug-ins. The ring
/// driver alone has an entry point of its own (`rte_eth_from_rings`), so it is linked by name.
fn link_extra_libraries() {
    println!("cargo::rustc-link-lib=rte_net_ring");
}

/// Gives the constants of `wrapper.h` their DPDK names back.
#[derive(Debug)]
struct StripPrefix;

impl ParseCallbacks for StripPrefix {
    fn item_name(&self, item: ItemInfo<'_>) -> Option<String> {
        item.name.strip_prefix("stoq_const_").map(str::to_owned)
    }
}

/// `22.11.4` is release (22, 11).
fn release(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.');
    let year = parts.next()?.parse().ok()?;
    let month = parts.next()?.split('-').next()?.parse().ok()?;
    Some((year, month))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Ends the build with one sentence a person can act on.
fn stop(message: &str) -> ! {
    println!("cargo::error={message}");
    process::exit(1);
}
