// Package probe finds out what is wrong with a target, by using it: what verneuilctl doctor prints.
//
// A [Finding] is one thing, in one place, with what to do about it. Levels say what that means:
//
//	unsafe   data may be lost, or nothing works: what the library refuses, it refuses with the
//	         same words, as both ask the same function
//	warning  it works, less well or less surely than it should
//	note     what one may want to know
//	ok       it was looked at, and is as it should be
//
// Nothing that belongs to a database is written. With [Options].Write, the buckets get their
// identity, as by the first backup, and objects are put under keys want-<32 hex digits>, which are
// deleted again, or, where the credentials may not do that, by verneuilctl gc, when they are old.
//
// # Beliefs
//
// A store keeps a rule. Witness: it did, now, for these requests. Defeated by a store that keeps it
// by chance (a race that nobody lost), and by a proxy, policy or rule that comes later: run it
// again after each change. What could not be asked is a finding, too.
package probe
