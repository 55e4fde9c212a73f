/*
 * What DPDK offers only as static inline functions or thread-local variables, as symbols that can be linked. Functions of
 * the data path take a whole burst, so that one call crosses from Rust to C per burst and not per packet.
 */
#ifndef STOQ_SHIM_H
#define STOQ_SHIM_H

#include <stddef.h>
#include <stdint.h>

struct rte_mbuf;
struct rte_mempool;
struct rte_ring;
struct rte_tel_data;

/* Receive up to n mbufs of one queue; the first bytes of each packet are prefetched. Returns how many arrived. */
uint16_t stoq_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t n);

/* Hand n mbufs to the driver. Returns how many it took, always from the front; the caller still owns the others. */
uint16_t stoq_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t n);

/* Take n mbufs, reset to an empty packet behind the headroom, out of the pool: all of them and 0, or none and -ENOENT. */
int stoq_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned int n);

/* Give n mbufs, chained or not and from any pools, back. NULL entries are skipped. */
void stoq_free_bulk(struct rte_mbuf **mbufs, unsigned int n);

/* Give back one mbuf that is direct, unchained and not shared (reference count 1). Any thread, known to EAL or not. */
void stoq_raw_free(struct rte_mbuf *m);

/* Data room of each mbuf of the pool, headroom included, bytes. */
uint16_t stoq_pool_data_room(struct rte_mempool *pool);

/* Mbufs in the part of the pool that all lcores share, their caches left out. */
uint32_t stoq_pool_shared_count(const struct rte_mempool *pool);

/* Number of mbufs the pool was made with. */
uint32_t stoq_pool_size(const struct rte_mempool *pool);

unsigned int stoq_ring_enqueue_burst(struct rte_ring *r, void *const *objects, unsigned int n);
unsigned int stoq_ring_dequeue_burst(struct rte_ring *r, void **objects, unsigned int n);
unsigned int stoq_ring_count(const struct rte_ring *r);

/* The link of a port without waiting for negotiation: speed in Mbit/s, whether up, whether full duplex. 0 or -errno. */
int stoq_link(uint16_t port, uint32_t *speed_mbps, int *up, int *full_duplex);

/* Telemetry's 64-bit numbers, which were renamed in release 23.03. 0 or -errno. */
int stoq_tel_start_u64_array(struct rte_tel_data *d);
int stoq_tel_add_array_u64(struct rte_tel_data *d, uint64_t value);
int stoq_tel_add_dict_u64(struct rte_tel_data *d, const char *name, uint64_t value);

/* The calling thread's lcore, UINT32_MAX on a thread EAL does not know. */
unsigned int stoq_lcore_id(void);

/* The calling thread's rte_errno. */
int stoq_errno(void);

/* Time stamp counter, ticks. */
uint64_t stoq_tsc(void);

/* Tells the CPU that this is a spin loop. */
void stoq_pause(void);

/* For tests: the value of a constant (constants.h) or the offset of an mbuf field as the C compiler sees it; UINT64_MAX when unknown. */
uint64_t stoq_layout_constant(const char *name);
uint64_t stoq_layout_constant_count(void);
uint64_t stoq_layout_mbuf_size(void);
uint64_t stoq_layout_mbuf_field(const char *name);

/* For tests: write a distinct value into every mbuf field listed in constants.h. */
void stoq_layout_mbuf_fill(struct rte_mbuf *m);

#endif
