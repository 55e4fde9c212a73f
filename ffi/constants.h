/*
 * The DPDK constants that Rust needs.
 *
 * Most of them are macros over casts or over RTE_BIT64(), which bindgen cannot read. wrapper.h therefore turns each name
 * into a `static const` that clang evaluates, and shim.c compiles the same list into a table with the C compiler, against
 * which tests/layout.rs checks every value.
 */
#ifndef STOQ_CONSTANTS_H
#define STOQ_CONSTANTS_H

#define STOQ_CONSTANTS(X)                                                                                              \
	/* Build limits. */                                                                                            \
	X(RTE_MAX_LCORE)                                                                                               \
	X(RTE_MAX_ETHPORTS)                                                                                            \
	X(RTE_MAX_NUMA_NODES)                                                                                          \
	X(RTE_PKTMBUF_HEADROOM)                                                                                        \
	X(RTE_MBUF_DEFAULT_DATAROOM)                                                                                   \
	X(RTE_MBUF_DEFAULT_BUF_SIZE)                                                                                   \
	X(RTE_MBUF_PRIV_ALIGN)                                                                                         \
	X(RTE_MBUF_L2_LEN_BITS)                                                                                        \
	X(RTE_MBUF_L3_LEN_BITS)                                                                                        \
	X(RTE_MBUF_L4_LEN_BITS)                                                                                        \
	X(RTE_MBUF_TSO_SEGSZ_BITS)                                                                                     \
	X(RTE_MEMPOOL_CACHE_MAX_SIZE)                                                                                  \
	X(RTE_MEMPOOL_NAMESIZE)                                                                                        \
	X(RTE_ETH_NAME_MAX_LEN)                                                                                        \
	X(RTE_ETH_XSTATS_NAME_SIZE)                                                                                    \
	X(RTE_ETHER_MIN_MTU)                                                                                           \
	/* mbuf flags, received. */                                                                                    \
	X(RTE_MBUF_F_RX_RSS_HASH)                                                                                      \
	X(RTE_MBUF_F_RX_VLAN)                                                                                          \
	X(RTE_MBUF_F_RX_VLAN_STRIPPED)                                                                                 \
	X(RTE_MBUF_F_RX_IP_CKSUM_MASK)                                                                                 \
	X(RTE_MBUF_F_RX_IP_CKSUM_BAD)                                                                                  \
	X(RTE_MBUF_F_RX_IP_CKSUM_GOOD)                                                                                 \
	X(RTE_MBUF_F_RX_L4_CKSUM_MASK)                                                                                 \
	X(RTE_MBUF_F_RX_L4_CKSUM_UNKNOWN)                                                                              \
	X(RTE_MBUF_F_RX_L4_CKSUM_BAD)                                                                                  \
	X(RTE_MBUF_F_RX_L4_CKSUM_GOOD)                                                                                 \
	X(RTE_MBUF_F_RX_L4_CKSUM_NONE)                                                                                 \
	X(RTE_MBUF_F_RX_LRO)                                                                                           \
	/* mbuf flags, to send. */                                                                                     \
	X(RTE_MBUF_F_TX_IPV6)                                                                                          \
	X(RTE_MBUF_F_TX_IPV4)                                                                                          \
	X(RTE_MBUF_F_TX_IP_CKSUM)                                                                                      \
	X(RTE_MBUF_F_TX_L4_MASK)                                                                                       \
	X(RTE_MBUF_F_TX_UDP_CKSUM)                                                                                     \
	X(RTE_MBUF_F_TX_UDP_SEG)                                                                                       \
	X(RTE_MBUF_F_TX_VLAN)                                                                                          \
	/* mbuf flags, kind of buffer. */                                                                              \
	X(RTE_MBUF_F_INDIRECT)                                                                                         \
	X(RTE_MBUF_F_EXTERNAL)                                                                                         \
	/* Port offloads, receive. */                                                                                  \
	X(RTE_ETH_RX_OFFLOAD_VLAN_STRIP)                                                                               \
	X(RTE_ETH_RX_OFFLOAD_IPV4_CKSUM)                                                                               \
	X(RTE_ETH_RX_OFFLOAD_UDP_CKSUM)                                                                                \
	X(RTE_ETH_RX_OFFLOAD_TCP_CKSUM)                                                                                \
	X(RTE_ETH_RX_OFFLOAD_TCP_LRO)                                                                                  \
	X(RTE_ETH_RX_OFFLOAD_SCATTER)                                                                                  \
	X(RTE_ETH_RX_OFFLOAD_KEEP_CRC)                                                                                 \
	X(RTE_ETH_RX_OFFLOAD_RSS_HASH)                                                                                 \
	X(RTE_ETH_RX_OFFLOAD_BUFFER_SPLIT)                                                                             \
	/* Port offloads, transmit. */                                                                                 \
	X(RTE_ETH_TX_OFFLOAD_VLAN_INSERT)                                                                              \
	X(RTE_ETH_TX_OFFLOAD_IPV4_CKSUM)                                                                               \
	X(RTE_ETH_TX_OFFLOAD_UDP_CKSUM)                                                                                \
	X(RTE_ETH_TX_OFFLOAD_TCP_CKSUM)                                                                                \
	X(RTE_ETH_TX_OFFLOAD_UDP_TSO)                                                                                  \
	X(RTE_ETH_TX_OFFLOAD_MT_LOCKFREE)                                                                              \
	X(RTE_ETH_TX_OFFLOAD_MULTI_SEGS)                                                                               \
	X(RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE)                                                                           \
	X(RTE_ETH_TX_OFFLOAD_SEND_ON_TIMESTAMP)                                                                        \
	/* Receive side scaling. */                                                                                    \
	X(RTE_ETH_RETA_GROUP_SIZE)                                                                                     \
	X(RTE_ETH_RSS_IPV6)                                                                                            \
	X(RTE_ETH_RSS_IPV6_EX)                                                                                         \
	X(RTE_ETH_RSS_NONFRAG_IPV6_UDP)                                                                                \
	X(RTE_ETH_RSS_IPV6_UDP_EX)                                                                                     \
	/* Link. */                                                                                                    \
	X(RTE_ETH_LINK_DOWN)                                                                                           \
	X(RTE_ETH_LINK_UP)                                                                                             \
	X(RTE_ETH_SPEED_NUM_NONE)                                                                                      \
	X(RTE_ETH_SPEED_NUM_UNKNOWN)                                                                                   \
	/* Telemetry: what fits into an answer. */                                                                     \
	X(RTE_TEL_MAX_STRING_LEN)                                                                                      \
	X(RTE_TEL_MAX_SINGLE_STRING_LEN)                                                                               \
	X(RTE_TEL_MAX_DICT_ENTRIES)                                                                                    \
	X(RTE_TEL_MAX_ARRAY_ENTRIES)                                                                                   \
	/* Rings: one producer, one consumer. */                                                                       \
	X(RING_F_SP_ENQ)                                                                                               \
	X(RING_F_SC_DEQ)                                                                                               \
	/* Log levels. */                                                                                              \
	X(RTE_LOG_EMERG)                                                                                               \
	X(RTE_LOG_ERR)                                                                                                 \
	X(RTE_LOG_WARNING)                                                                                             \
	X(RTE_LOG_NOTICE)                                                                                              \
	X(RTE_LOG_INFO)                                                                                                \
	X(RTE_LOG_DEBUG)

/*
 * Where the fields of struct rte_mbuf lie. Releases after 22.11 moved fields into anonymous unions, which changes the
 * paths bindgen gives them but not their offsets; src/mbuf.rs reads and writes fields by these offsets alone.
 */
#define STOQ_MBUF_FIELDS(X)                                                                                            \
	X(buf_addr)                                                                                                    \
	X(data_off)                                                                                                    \
	X(refcnt)                                                                                                      \
	X(nb_segs)                                                                                                     \
	X(port)                                                                                                        \
	X(ol_flags)                                                                                                    \
	X(pkt_len)                                                                                                     \
	X(data_len)                                                                                                    \
	X(buf_len)                                                                                                     \
	X(pool)                                                                                                        \
	X(next)                                                                                                        \
	X(vlan_tci)                                                                                                    \
	X(hash)                                                                                                        \
	X(tx_offload)                                                                                                  \
	X(priv_size)

#endif
