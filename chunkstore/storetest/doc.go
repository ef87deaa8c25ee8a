// Package storetest is the conformance suite of [verneuil/chunkstore]'s contracts, which each
// provider's tests call with a target of their own making, and what those tests have in common.
// Only tests import it.
package storetest
