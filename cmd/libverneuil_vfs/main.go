// Command libverneuil_vfs is the loadable SQLite extension:
//
//	go build -buildmode=c-shared -o libverneuil_vfs.so ./cmd/libverneuil_vfs
//
// The Makefile's link flags make its runtime start late and hide all but its
// entry point.
package main

import _ "verneuil/cgo"

func main() {}
