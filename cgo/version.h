/*
** What verneuil_version() says. vfs.Program is the same: cgo.go asserts it.
*/
#ifndef VERNEUIL_VERSION_H
#define VERNEUIL_VERSION_H

#define VERNEUIL_VERSION "verneuil-go 0.1.0"

#endif
