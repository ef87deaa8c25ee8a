//go:build !race

package remote

const schedulesDefault = 1000
