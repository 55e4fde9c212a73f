/* What bindgen reads. Only the names on the allowlist in build.rs come out of it. */
#include <rte_config.h>

#include <rte_cycles.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_eth_ring.h>
#include <rte_ethdev.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_malloc.h>
#include <rte_mbuf.h>
#include <rte_mbuf_dyn.h>
#include <rte_mempool.h>
#include <rte_ring.h>
#include <rte_telemetry.h>
#include <rte_version.h>

#include "constants.h"
#include "shim.h"

/* build.rs strips the prefix again: STOQ_EXPORT(RTE_MAX_LCORE) is seen as RTE_MAX_LCORE by Rust. */
#define STOQ_EXPORT(constant) static const uint64_t stoq_const_##constant = (uint64_t)(constant);
STOQ_CONSTANTS(STOQ_EXPORT)

#define STOQ_EXPORT_OFFSET(field) static const uint64_t stoq_const_MBUF_OFFSET_##field = offsetof(struct rte_mbuf, field);
STOQ_MBUF_FIELDS(STOQ_EXPORT_OFFSET)
