package cgo

/*
#include "remote.h"
*/
import "C"

import (
	"context"
	"unsafe"

	"verneuil/vfs"
)

//export goCephStatus
func goCephStatus(db unsafe.Pointer, isError *C.int) (z *C.char) {
	*isError = 1
	defer guard("ask who this process is to Ceph")
	var status string
	err := waiting(db, func(ctx context.Context) (err error) {
		status, err = vfs.Process().CephStatus(ctx)
		return err
	})
	if err != nil {
		return C.CString("ceph_status: " + err.Error())
	}
	*isError = 0
	return C.CString(status)
}
