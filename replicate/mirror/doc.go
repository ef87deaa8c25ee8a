// Package mirror keeps a private copy of a database, the mirror, equal to the database. What is
// replicated is read from the mirror, and never from the database itself.
//
// It knows no network, no target and no manifest. Of package chunkstore it uses what a chunk
// is: its size and its ID.
//
// # Invariants
//
// A kill at any point leaves files from which a successor goes on:
//
//	M1  A chunk's byte in dirty is set before the first change of the chunk since
//	    the last cut reaches the mirror's file, and cleared only after that cut is
//	    saved (see Files in package cutter).
//	M2  The mirror's length decides: what dirty has beyond it counts for nothing,
//	    and is cut off when the mirror is opened.
//	M3  Which sectors of a chunk changed is only in memory: a successor takes the
//	    whole of a chunk as changed whose byte is set.
//	M4  A chunk that a view needs is set aside before it is changed.
//	M5  What the files are like is in the state (see guard.go), or since when they
//	    are being changed: what else changes them is found out before it is used.
//
// The changelog is applied again from its tail, so that a torn transaction is
// made whole (replaying is idempotent); a torn base copy is begun anew.
package mirror
