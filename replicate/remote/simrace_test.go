//go:build race

package remote

// Under the race detector a schedule takes several times as long, and the detector has crashed once
// after some 600 bubbles, in internal/synctest.Run. `make unit` runs the others without it.
const schedulesDefault = 60
