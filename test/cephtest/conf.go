package cephtest

import (
	"crypto/rand"
	"fmt"
)

// memoryBytes is what an OSD on memstore says that it can hold, and blockBytes the length of the
// sparse file of one on bluestore.
const (
	memoryBytes = 4 << 30
	blockBytes  = 16 << 30
)

// uuid returns a random UUID.
func uuid() string {
	b := make([]byte, 16)
	rand.Read(b) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// conf returns ceph.conf of a cluster whose monitor listens at port.
//
//   - memstore counts the bytes of deleted objects wrongly without memstore_page_set, and calls
//     itself full; it is saved only by the slow shutdown.
//   - The virtual disks of test machines count as rotating for bluestore, which then defers writes.
//   - paxos_propose_interval is how long each change of the cluster waits for others.
//   - osd_pool_default_read_lease_ratio times 20 s is how long an OSD that comes back after SIGKILL
//     lets its clients wait; one that was frozen for longer than that may never answer again, if it
//     is the only one.
func (c *Cluster) conf(port int) string {
	auth, store, shutdown, lease := "cephx", "memstore", "false", "0.8"
	if c.options.NoAuth {
		auth = "none"
	}
	if c.options.Bluestore {
		store, shutdown, lease = "bluestore", "true", "0.1"
	}
	return fmt.Sprintf(`[global]
fsid = %[1]s
mon_host = [v2:127.0.0.1:%[2]d/0]
public_network = 127.0.0.0/8
cluster_network = 127.0.0.0/8
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
ms_bind_ipv6 = false
ms_bind_msgr1 = false
ms_bind_port_min = 16800
ms_bind_port_max = 18800
auth_cluster_required = %[3]s
auth_service_required = %[3]s
auth_client_required = %[3]s
auth_allow_insecure_global_id_reclaim = false
keyring = %[4]s/keyring
run_dir = %[4]s
crash_dir = %[4]s/crash
log_file = %[4]s/$name.log
log_to_stderr = false
paxos_propose_interval = 0.05
osd_pool_default_size = %[5]d
osd_pool_default_min_size = %[6]d
osd_pool_default_pg_num = 4
osd_pool_default_pgp_num = 4
osd_pool_default_pg_autoscale_mode = off
osd_pool_default_erasure_code_profile = plugin=jerasure technique=reed_sol_van k=2 m=1 crush-failure-domain=osd
osd_pool_default_read_lease_ratio = %[13]s
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_allow_pool_delete = true
mon_max_pg_per_osd = 1000
mon_data_avail_warn = 1
mon_data_avail_crit = 1
%[7]s%[8]s
[mon]
mon_data = %[4]s/mon
mon_cluster_log_file = %[4]s/cluster.log

[osd]
osd_data = %[4]s/$name
osd_objectstore = %[9]s
osd_fast_shutdown = %[10]s
osd_memory_target = 939524096
osd_class_load_list = *
osd_class_default_list = *
memstore_device_bytes = %[11]d
memstore_page_set = true
bluestore_block_create = true
bluestore_block_size = %[12]d
bluestore_block_db_create = false
bluestore_block_wal_create = false
bluestore_debug_enforce_settings = ssd
osd_deep_scrub_interval = 31536000
osd_scrub_min_interval = 31536000
osd_scrub_max_interval = 31536000
`, uuid(), port, auth, c.dir, c.options.OSDs, (c.options.OSDs+1)/2,
		c.Programs.conf(), c.options.Conf, store, shutdown, memoryBytes, blockBytes, lease)
}
