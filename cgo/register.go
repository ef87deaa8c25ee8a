package cgo

/*
#include <stddef.h>

// The SQLite that is linked into the program: go-sqlite3's, or the system's. Weak,
// because the loadable library has none, and never comes here.
typedef struct sqlite3 sqlite3;
typedef struct sqlite3_api_routines sqlite3_api_routines;
extern int sqlite3_auto_extension(void (*)(void)) __attribute__((weak));
extern int sqlite3_open(const char *, sqlite3 **) __attribute__((weak));
extern int sqlite3_close(sqlite3 *) __attribute__((weak));
extern int verneuilInit(sqlite3 *, char **, const sqlite3_api_routines *);

static int registerStatic(void) {
	sqlite3 *db = NULL;
	if (!sqlite3_auto_extension) return -1;
	int rc = sqlite3_auto_extension((void (*)(void))verneuilInit);
	if (rc) return rc;
	rc = sqlite3_open(":memory:", &db); // runs verneuilInit: the VFSes exist from here on
	sqlite3_close(db);
	return rc;
}
*/
import "C"

import (
	"errors"
	"fmt"
	"sync"
)

// Register makes the VFSes and SQL functions known to the SQLite library that the
// program links, such as mattn/go-sqlite3's:
//
//	import (
//		_ "github.com/mattn/go-sqlite3"
//		"verneuil/cgo"
//	)
//	…
//	if err := cgo.Register(); err != nil { … }
//	db, err := sql.Open("sqlite3", "file:my.db?vfs=verneuil")
//
// VERNEUIL_CONFIG is read when the first database is opened. Only the first call
// does anything; it is safe for concurrent use.
var Register = sync.OnceValue(func() error {
	switch rc := C.registerStatic(); rc {
	case 0:
		return nil
	case -1:
		return errors.New("register verneuil: the program links no SQLite")
	default:
		return fmt.Errorf("register verneuil: SQLite result code %d", int(rc))
	}
})
