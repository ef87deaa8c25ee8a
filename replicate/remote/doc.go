// Package remote is databases that live in a store.
package remote
