// Package librados is a binding of Ceph's librados, as far as the RADOS provider needs it: it knows
// nothing of chunks, logs or databases.
//
// The library is opened when it is first needed ([Load]). Nothing is linked against it, and nothing
// of Ceph's is needed to build: api.h declares what is used of the stable C interface.
//
//	Cluster              one client of a cluster
//	IO                   its pool and namespace
//	WriteOp, ReadOp      compound operations on one object: all of it happens, or nothing
//	Watch                hears what others tell an object by [IO.Notify]
//	Locker               who has a lock of the class "lock"
//
// # Calls
//
// All requests are asynchronous. What librados calls back runs on its threads, and only queues what
// has ended, in C (calls.c). One goroutine takes from the queue, and wakes who waits. Where the
// interface has blocking functions alone (connecting, commands to monitors, locks, lists), they run
// in goroutines of their own.
//
// [IO.WriteHere] waits in the caller's thread, which librados wakes itself.
//
// A call whose context ends is cancelled, and returns at once. Its memory belongs to librados until
// that says that the call has ended. What it was to write may have been written, or may yet be.
//
// # Errors
//
// An [Error] has the errno. ENOENT is said of an absent object only if the pool is there:
// else it is [ErrNoPool].
//
// What would have librados end or abort the process is refused before: options in CEPH_ARGS that
// print and exit, that lack a value, or that it asserts to be right; messengers that there are not;
// names that are empty or hold a zero byte, reads of more than 1 GiB. These were found by giving
// some seventy options of a client odd values. A monitor may tell clients others, which only an
// administrator of the cluster can have it do.
//
// # Beliefs
//
//	the object is absent
//	         ENOENT, and the client's map has the pool. That map is no older than the one by which
//	         the request was sent or refused: a pool that was deleted is known to be
//	a notification was heard
//	         the cluster says that each watch has acknowledged it, which happens in C, before Go
//	         knows of it. A process that dies in between has heard nothing
package librados
