package cgo

/*
#include "gort_calls.h"
*/
import "C"

import "unsafe"

//export goReady
func goReady() { go serve() }

// serve runs what the host's threads call of Go, while they wait in C (gort_calls.c).
func serve() {
	for p := C.gortTake(); p != nil; p = C.gortTake() {
		if p.isLast != 0 {
			go serve()
		}
		// To Go a function is where its address stands, as in runtime/cgocall.go.
		entry := &p.xGo
		(*(*func(unsafe.Pointer))(unsafe.Pointer(&entry)))(p.pArg)
		C.gortDone(p)
	}
}
