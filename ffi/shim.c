#include "shim.h"

#include <string.h>

#include <rte_cycles.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_pause.h>
#include <rte_prefetch.h>
#include <rte_ring.h>
#include <rte_telemetry.h>
#include <rte_version.h>

#include "constants.h"

uint16_t
stoq_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t n)
{
	const uint16_t received = rte_eth_rx_burst(port, queue, mbufs, n);

	/* The driver has just written the mbuf itself; the headers are what the parser would otherwise wait for. */
	for (uint16_t i = 0; i < received; i++)
		rte_prefetch0(rte_pktmbuf_mtod(mbufs[i], void *));
	return received;
}

uint16_t
stoq_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t n)
{
	return rte_eth_tx_burst(port, queue, mbufs, n);
}

int
stoq_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned int n)
{
	return rte_pktmbuf_alloc_bulk(pool, mbufs, n);
}

void
stoq_free_bulk(struct rte_mbuf **mbufs, unsigned int n)
{
	rte_pktmbuf_free_bulk(mbufs, n);
}

void
stoq_raw_free(struct rte_mbuf *m)
{
	/* What every mbuf inside a pool must look like. Written only when wrong: the second cache line may be cold. */
	if (m->next != NULL)
		m->next = NULL;
	if (m->nb_segs != 1)
		m->nb_segs = 1;
	rte_mbuf_raw_free(m);
}

uint16_t
stoq_pool_data_room(struct rte_mempool *pool)
{
	return rte_pktmbuf_data_room_size(pool);
}

uint32_t
stoq_pool_shared_count(const struct rte_mempool *pool)
{
	/* rte_mempool_ops_get_count() does this, but the library does not export it. */
	return rte_mempool_get_ops(pool->ops_index)->get_count(pool);
}

uint32_t
stoq_pool_size(const struct rte_mempool *pool)
{
	return pool->size;
}

unsigned int
stoq_ring_enqueue_burst(struct rte_ring *r, void *const *objects, unsigned int n)
{
	return rte_ring_enqueue_burst(r, objects, n, NULL);
}

unsigned int
stoq_ring_dequeue_burst(struct rte_ring *r, void **objects, unsigned int n)
{
	return rte_ring_dequeue_burst(r, objects, n, NULL);
}

unsigned int
stoq_ring_count(const struct rte_ring *r)
{
	return rte_ring_count(r);
}

int
stoq_link(uint16_t port, uint32_t *speed_mbps, int *up, int *full_duplex)
{
	struct rte_eth_link link;

	memset(&link, 0, sizeof(link));
	const int error = rte_eth_link_get_nowait(port, &link);

	*speed_mbps = link.link_speed;
	*up = link.link_status == RTE_ETH_LINK_UP;
	*full_duplex = link.link_duplex == RTE_ETH_LINK_FULL_DUPLEX;
	return error;
}

#if RTE_VERSION < RTE_VERSION_NUM(23, 3, 0, 0)
#define TEL_ARRAY RTE_TEL_U64_VAL
#define tel_add_array rte_tel_data_add_array_u64
#define tel_add_dict rte_tel_data_add_dict_u64
#else
#define TEL_ARRAY RTE_TEL_UINT_VAL
#define tel_add_array rte_tel_data_add_array_uint
#define tel_add_dict rte_tel_data_add_dict_uint
#endif

int
stoq_tel_start_u64_array(struct rte_tel_data *d)
{
	return rte_tel_data_start_array(d, TEL_ARRAY);
}

int
stoq_tel_add_array_u64(struct rte_tel_data *d, uint64_t value)
{
	return tel_add_array(d, value);
}

int
stoq_tel_add_dict_u64(struct rte_tel_data *d, const char *name, uint64_t value)
{
	return tel_add_dict(d, name, value);
}

unsigned int
stoq_lcore_id(void)
{
	return rte_lcore_id();
}

int
stoq_errno(void)
{
	return rte_errno;
}

uint64_t
stoq_tsc(void)
{
	return rte_rdtsc();
}

void
stoq_pause(void)
{
	rte_pause();
}

struct named {
	const char *name;
	uint64_t value;
};

#define NAMED_CONSTANT(constant) { #constant, (uint64_t)(constant) },
static const struct named constants[] = { STOQ_CONSTANTS(NAMED_CONSTANT) };

#define NAMED_OFFSET(field) { #field, offsetof(struct rte_mbuf, field) },
static const struct named mbuf_fields[] = { STOQ_MBUF_FIELDS(NAMED_OFFSET) };

static uint64_t
lookup(const struct named *table, size_t length, const char *name)
{
	for (size_t i = 0; i < length; i++)
		if (strcmp(table[i].name, name) == 0)
			return table[i].value;
	return UINT64_MAX;
}

uint64_t
stoq_layout_constant(const char *name)
{
	return lookup(constants, RTE_DIM(constants), name);
}

uint64_t
stoq_layout_constant_count(void)
{
	return RTE_DIM(constants);
}

uint64_t
stoq_layout_mbuf_size(void)
{
	return sizeof(struct rte_mbuf);
}

uint64_t
stoq_layout_mbuf_field(const char *name)
{
	return lookup(mbuf_fields, RTE_DIM(mbuf_fields), name);
}

void
stoq_layout_mbuf_fill(struct rte_mbuf *m)
{
	m->buf_addr = (void *)(uintptr_t)0x1111222233334444;
	m->data_off = 0x1001;
	m->refcnt = 0x1002;
	m->nb_segs = 0x1003;
	m->port = 0x1004;
	m->ol_flags = 0x5555666677778888;
	m->pkt_len = 0x20000001;
	m->data_len = 0x1005;
	m->buf_len = 0x1006;
	m->pool = (struct rte_mempool *)(uintptr_t)0x9999aaaabbbbcccc;
	m->next = (struct rte_mbuf *)(uintptr_t)0xddddeeeeffff0000;
	m->tx_offload = 0;
	m->l2_len = 14;
	m->l3_len = 40;
	m->l4_len = 8;
	m->tso_segsz = 1200;
	m->vlan_tci = 0x1008;
	m->hash.rss = 0x20000002;
	m->priv_size = 0x1007;
}
